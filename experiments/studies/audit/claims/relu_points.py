"""Claims on the ReLU loss and its gradient, at one or two points."""

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
from ..margins import Margins, at_least, at_most, equal
from ..states import Points
from .shared import no_conditions

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_TAU = np.linspace(0, 1, 65)[1:]
"""Parameters of the points on a segment at which gradients are compared."""


def _off_zero(p: Parameters, state: Points) -> Margins:
    lengths = jnp.minimum(norm(state.first), norm(state.second))
    return {"w ≠ 0": at_least(lengths, 1e-6)}


def _interior(p: Parameters, state: Points) -> Margins:
    theta = angle(state.first, p.w_star)
    return _off_zero(p, state) | {"0 < θ < π": at_least(jnp.sin(theta), 1e-3)}


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


def _saddle(p: Parameters) -> Array:
    return -(p.k**2 - p.k) / (p.k**2 + (math.pi - 1) * p.k) * p.w_star


def _critical(run: Run) -> Margins:
    p, s = run
    f = NoOverlapReLU(p.k)
    saddle, star = _saddle(p), p.w_star
    towards = unit(tangent(star, s.first))
    shift = 0.1 * norm(saddle)
    here = f.loss(saddle, star)
    return {
        "∇f(w*) = 0": equal(f.grad(star, star), 0 * star, 1.0),
        "∇f(saddle) = 0": equal(f.grad(saddle, star), 0 * star, 1.0),
        "f(w) ≥ f(w*) = 0": at_least(f.loss(s.first, star), 0.0),
        "saddle: up along w*": at_least(f.loss(1.1 * saddle, star), here, 1.0),
        "saddle: not up across w*": at_most(f.loss(jnp.sqrt(1 - 0.1**2) * saddle + shift * towards, star), here, 1.0),
        "0: a maximum nearby": at_most(f.loss(_near_zero(p, s.first), star), f.loss(0 * star, star), 1.0),
    }


def _near_zero(p: Parameters, w: Array) -> Array:
    """Scales w into the ball of radius (k − 1)/(π + k − 1)·‖w*‖, where b‖w‖‖w*‖ exceeds the quadratic term."""
    radius = (p.k - 1) / (math.pi + p.k - 1) * norm(p.w_star)
    return unit(w) * jnp.minimum(norm(w), radius)


def _several(p: Parameters, state: Points) -> Margins:
    return {"k > 1": at_least(p.k, 2.0)} | _interior(p, state)


def _apart(p: Parameters, state: Points) -> Margins:
    far = jnp.minimum(norm(state.first - p.w_star), norm(state.first - _saddle(p)))
    return _off_zero(p, state) | {"w 0.1 away from w* and saddle": at_least(far, 0.1)}


def _not_critical(run: Run) -> Margins:
    p, s = run
    return {"‖∇f(w)‖ > 0": at_least(norm(NoOverlapReLU(p.k).grad(s.first, p.w_star)), 1e-6)}


def _one_patch(p: Parameters, state: Points) -> Margins:
    return {"k = 1": at_most(p.k, 1.0)} | _off_zero(p, state)


def _no_maximum(run: Run) -> Margins:
    p, _ = run
    f, star = NoOverlapReLU(p.k), p.w_star
    # f(−εw*) − f(0) = (ε²/2)‖w*‖².
    return {"0: no maximum": at_least(f.loss(-0.1 * star, star) - f.loss(0 * star, star), 1e-3 * jnp.sum(star**2), 1.0)}


def _kink(run: Run) -> Margins:
    """Bounds the sum of the slopes of f at 0 along v and −v, which is 0 for a differentiable function."""
    p, s = run
    f, v, star = NoOverlapReLU(p.k), 1e-6 * unit(s.first), p.w_star
    bend = (f.loss(v, star) + f.loss(-v, star) - 2 * f.loss(0 * star, star)) / norm(v)
    size = norm(star)
    return {"0: f has a kink": at_most(bend, -size / (2 * p.k * math.pi), error=1e-5 * (1 + size) ** 2)}


def _on_a_ball(run: Run) -> Margins:
    """Compares f + λ‖·‖₁ at the minimiser t w* of f on ‖w‖ ≤ t, t = 0.9, with points beside it.

    λ is such that t w* is the best multiple of w*. A step along the tangential part of −sgn(w*) lowers ‖w‖₁ to first
    order and leaves the norm unchanged to first order.
    """
    p, _ = run
    star = unit(p.w_star)
    f, t, sign = NoOverlapReLU(p.k), 0.9, jnp.sign(p.w_star)
    taxi = jnp.sum(jnp.abs(star))
    curve = (1 - 1 / p.k) / (2 * math.pi) + 1 / (2 * p.k)
    lam = 2 * curve * (1 - t) / taxi
    away = tangent(star, sign)
    here = f.loss(t * star, star) + lam * t * taxi
    there = []
    for step in (1e-1, 1e-2, 1e-3, 1e-4):
        w = t * star - step * lam * away
        there.append(f.loss(w, star) + lam * jnp.sum(jnp.abs(w)))
    return {"f + λ‖w‖₁": at_most(here, jnp.stack(there), lam, 1.0)}


def _unequal(p: Parameters, state: Points) -> Margins:
    star = unit(p.w_star)
    return {"|w*_i| unequal": at_least(norm(tangent(star, jnp.sign(star))), 1e-2)}


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
        _off_zero,
        _loss_formula,
    ),
    Claim(
        "A-5.1.1",
        "A Lemma 5.1.1, I Lemma 3",
        "k > 1: a maximum at 0, the minimum at w*, a saddle at −((k² − k)/(k² + (π − 1)k)) w*",
        _RELU,
        _several,
        _critical,
    ),
    Claim(
        "A-3.1-ball",
        "A section 3.1",
        "the minimiser of f + λ‖w‖₁ minimises f on ‖w‖ ≤ t for some t, here t = 0.9‖w*‖",
        _RELU,
        _unequal,
        _on_a_ball,
    ),
    Claim("A-5.1.1-kink", "A Lemma 5.1.1, I Lemma 3", "f is not differentiable at 0", _RELU, _off_zero, _kink),
    Claim("A-5.1.1-k1", "A Lemma 5.1.1, I Lemma 3", "k = 1: 0 is no local maximum", _RELU, _one_patch, _no_maximum),
    Claim("A-5.1.1-no-other", "A Lemma 5.1.1, I Lemma 3", "no further critical point", _RELU, _apart, _not_critical),
    Claim(
        "A-5.1.2",
        "A Lemma 5.1.2, I Lemma 4",
        "∇f has Lipschitz constant 1 + 3‖w*‖/M on a half-plane bounded by w*, where ‖w‖ ≥ M",
        _RELU,
        _interior,
        _lipschitz_half_plane,
    ),
    Claim(
        "A-5.1.2-anywhere",
        "A proof of Lemma 5.1.5, I Lemma 2",
        "the same constant serves any two points (used without the half-plane)",
        _RELU,
        _off_zero,
        lambda run: _lipschitz(run.parameters, *run.state),
    ),
    Claim(
        "A-5.1.3",
        "A Lemma 5.1.3",
        "‖∇f(x + τ(y − x)) − ∇f(x)‖ ≤ L‖x − y‖ on the segment gives |f(y) − f(x) − ⟨∇f(x), y − x⟩| ≤ (L/2)‖x − y‖²",
        _RELU,
        _off_zero,
        functools.partial(_descent, power=0),
    ),
    Claim(
        "A-5.1.3-right",
        "A Lemma 5.1.3",
        "the same with Lτ‖x − y‖ in the condition",
        _RELU,
        _off_zero,
        functools.partial(_descent, power=1),
    ),
    Claim("I-eq13", "I eq. 13, A Lemma 5.4.2", "the formula for ∇f(w)", _RELU, _interior, _gradient),
)
