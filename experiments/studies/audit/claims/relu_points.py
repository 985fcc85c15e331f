"""Claims on the ReLU loss and its gradient, at one or two points; those on critical points are in between."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rvsmjax.geometry import angle, norm, quotient, tangent, unit
from rvsmjax.problems import NoOverlapReLU

from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_most, equal
from .relu_critical import CLAIMS as CRITICAL
from .relu_critical import interior, off_zero
from .shared import no_conditions

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_TAU = np.linspace(0, 1, 65)[1:]
"""Parameters of the points on a segment at which gradients are compared."""


def expectation(u: Array, v: Array) -> Array:
    """Returns E σ(u·x)σ(v·x) by quadrature over the direction of x in the plane of u and v, where E r² = 2."""
    theta = angle(u, v)
    half = (math.pi - theta) / 2
    phi = theta - math.pi / 2 + half * (1 + _NODES)
    return norm(u) * norm(v) / math.pi * half * jnp.sum(_WEIGHTS * jnp.cos(phi) * jnp.cos(phi - theta))


def _kernel(u: Array, v: Array) -> Array:
    """Returns g(u, v) as printed."""
    theta = angle(u, v)
    return norm(u) * norm(v) * (jnp.sin(theta) + (math.pi - theta) * jnp.cos(theta)) / (2 * math.pi)


def _kernel_is_expectation(run: Run) -> Margins:
    _, s = run
    right = expectation(s.first, s.second)
    return {"g": equal(_kernel(s.first, s.second), right, norm(s.first) * norm(s.second))}


def _cross(u: Array, v: Array) -> Array:
    """Returns E σ(u·x)σ(v·y) for independent x and y."""
    return norm(u) * norm(v) / (2 * math.pi)


def _sum_as_printed(run: Run) -> Margins:
    return _sum(run, jnp.square(norm(run.state.first)) / 2)


def _sum_right(run: Run) -> Margins:
    k, w = run.parameters.k, run.state.first
    return _sum(run, jnp.square(norm(w)) / (2 * k) + (k - 1) / k * _cross(w, w))


def _sum(run: Run, first: Array) -> Margins:
    """Compares f(w) with the mean over i, j of first − 2g(w_i, w*_j) + g(w*_i, w*_j)."""
    p, s = run
    w, star, k = s.first, p.w_star, p.k
    mixed = _kernel(w, star) / k + (k - 1) / k * _cross(w, star)
    last = jnp.square(norm(star)) / (2 * k) + (k - 1) / k * _cross(star, star)
    return {"f": equal(first - 2 * mixed + last, NoOverlapReLU(k).loss(w, star), first, mixed, last)}


def _printed_loss(k: Array, w: Array, star: Array) -> Array:
    """Returns f(w) as in I eq. 5, without regard for cancellation."""
    b = (k**2 - k) / (2 * math.pi)
    n, m = jnp.sqrt(jnp.sum(w * w)), jnp.sqrt(jnp.sum(star * star))
    cosine = jnp.clip(jnp.sum(w * star) / (n * m), -1 + 1e-15, 1 - 1e-15)
    theta = jnp.arccos(cosine)
    g = n * m * (jnp.sin(theta) + (math.pi - theta) * cosine) / (2 * math.pi)
    return ((b + k / 2) * (n**2 + m**2) - 2 * k * g - 2 * b * n * m) / k**2


def _loss_formula(run: Run) -> Margins:
    p, s = run
    scale = jnp.square(norm(s.first) + 1)
    return {"f": equal(_printed_loss(p.k, s.first, p.w_star), NoOverlapReLU(p.k).loss(s.first, p.w_star), scale)}


def _printed_gradient(k: Array, w: Array, star: Array) -> Array:
    """Returns ∇f(w) as printed in A Lemma 5.4.2 and I eq. 13."""
    theta, ratio = angle(w, star), quotient(norm(star), norm(w))
    cross = (k**2 - k) / math.pi
    along = k + cross - k / math.pi * ratio * jnp.sin(theta) - cross * ratio
    return (along * w - k / math.pi * (math.pi - theta) * star) / k**2


def _gradient(run: Run) -> Margins:
    p, s = run
    slope = jax.grad(_printed_loss, argnums=1)(p.k, s.first, p.w_star)
    # The arc cosine in the loss and its derivative lose a factor 1/sin²θ of accuracy.
    lost = 8 * jnp.finfo(slope.dtype).eps / jnp.square(jnp.sin(angle(s.first, p.w_star)))
    return {"∇f": equal(_printed_gradient(p.k, s.first, p.w_star), slope, norm(s.first) + 1, error=lost)}


def _lipschitz(p: Parameters, first: Array, second: Array) -> Margins:
    f, least = NoOverlapReLU(p.k), jnp.minimum(norm(first), norm(second))
    bound = 1 + 3 * norm(p.w_star) / least
    change = norm(f.grad(first, p.w_star) - f.grad(second, p.w_star))
    return {"L": at_most(change, bound * norm(first - second), norm(first) + norm(second) + 1)}


def _lipschitz_half_plane(run: Run) -> Margins:
    p, s = run
    star = unit(p.w_star)
    theta = angle(s.second, star)
    side = unit(tangent(star, s.first))
    return _lipschitz(p, s.first, norm(s.second) * (jnp.cos(theta) * star + jnp.sin(theta) * side))


def _descent(run: Run, power: int) -> Margins:
    """Returns the inequality with the smallest L for ‖∇f(x + τ(y − x)) − ∇f(x)‖ <= Lτ^power‖y − x‖ on the segment."""
    p, s = run
    f, x, y = NoOverlapReLU(p.k), s.first, s.second
    tau = _TAU[:, None]
    change = norm(f.grad(x + tau * (y - x), p.w_star) - f.grad(x, p.w_star)) / _TAU**power
    far = norm(y - x)
    gap = f.loss(y, p.w_star) - f.loss(x, p.w_star) - jnp.sum(f.grad(x, p.w_star) * (y - x))
    terms = f.loss(y, p.w_star), f.loss(x, p.w_star), far
    # Between neighbouring τ the gradient is assumed to change by at most as much again as from one to the next.
    missed = far / 2 * jnp.max(jnp.abs(jnp.diff(change)), initial=0)
    return {"L/2‖y − x‖²": at_most(jnp.abs(gap), jnp.max(change) * far / 2, *terms, error=missed)}


_RELU = "relu points"

CLAIMS = (
    Claim(
        "A-3.0.1",
        "A Lemma 3.0.1, I Lemma 1",
        "g(u, v) = ‖u‖‖v‖(sin θ + (π − θ) cos θ)/(2π)",
        _RELU,
        no_conditions,
        _kernel_is_expectation,
    ),
    Claim(
        "A-eq7",
        "A eq. 7",
        "f = (1/k²) Σ_ij [g(w_i, w_i) − 2g(w_i, w*_j) + g(w*_i, w*_j)]",
        _RELU,
        no_conditions,
        _sum_as_printed,
    ),
    Claim(
        "A-eq7-right",
        "A eq. 7",
        "f = (1/k²) Σ_ij [g(w_i, w_j) − 2g(w_i, w*_j) + g(w*_i, w*_j)]",
        _RELU,
        no_conditions,
        _sum_right,
    ),
    Claim(
        "I-eq5",
        "I eq. 5, A eq. 8",
        "f = (1/k²)[(b + k/2)(‖w‖² + ‖w*‖²) − 2k g − 2b‖w‖‖w*‖], b = (k² − k)/(2π)",
        _RELU,
        off_zero,
        _loss_formula,
    ),
    *CRITICAL,
    Claim(
        "A-5.1.2",
        "A Lemma 5.1.2, I Lemma 4",
        "∇f has Lipschitz constant 1 + 3‖w*‖/M on a half-plane bounded by w*, where ‖w‖ ≥ M",
        _RELU,
        interior,
        _lipschitz_half_plane,
    ),
    Claim(
        "A-5.1.2-anywhere",
        "A proof of Lemma 5.1.5, I Lemma 2",
        "the same constant serves any two points (used without the half-plane)",
        _RELU,
        off_zero,
        lambda run: _lipschitz(run.parameters, *run.state),
    ),
    Claim(
        "A-5.1.3",
        "A Lemma 5.1.3",
        "‖∇f(x + τ(y − x)) − ∇f(x)‖ ≤ L‖x − y‖ on the segment gives |f(y) − f(x) − ⟨∇f(x), y − x⟩| ≤ (L/2)‖x − y‖²",
        _RELU,
        off_zero,
        functools.partial(_descent, power=0),
    ),
    Claim(
        "A-5.1.3-right",
        "A Lemma 5.1.3",
        "the same with Lτ‖x − y‖ in the condition",
        _RELU,
        off_zero,
        functools.partial(_descent, power=1),
    ),
    Claim("I-eq13", "I eq. 13, A Lemma 5.4.2", "the formula for ∇f(w)", _RELU, interior, _gradient),
)
