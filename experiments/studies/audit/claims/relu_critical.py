"""Claims on the critical points of the ReLU loss."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import angle, norm, tangent, unit
from rvsmjax.problems import NoOverlapReLU

from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_least, at_most, equal
from ..states import Points

_RELU = "relu points"


def off_zero(p: Parameters, state: Points) -> Margins:
    lengths = jnp.minimum(norm(state.first), norm(state.second))
    """Returns w ≠ 0."""
    return {"w ≠ 0": at_least(lengths, 1e-6)}


def interior(p: Parameters, state: Points) -> Margins:
    """Returns w ≠ 0, not parallel to w*."""
    theta = angle(state.first, p.w_star)
    return off_zero(p, state) | {"0 < θ < π": at_least(jnp.sin(theta), 1e-3)}


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
    return {"k > 1": at_least(p.k, 2.0)} | interior(p, state)


def _apart(p: Parameters, state: Points) -> Margins:
    far = jnp.minimum(norm(state.first - p.w_star), norm(state.first - _saddle(p)))
    return off_zero(p, state) | {"w 0.1 away from w* and saddle": at_least(far, 0.1)}


def _not_critical(run: Run) -> Margins:
    p, s = run
    return {"‖∇f(w)‖ > 0": at_least(norm(NoOverlapReLU(p.k).grad(s.first, p.w_star)), 1e-6)}


def _one_patch(p: Parameters, state: Points) -> Margins:
    return {"k = 1": at_most(p.k, 1.0)} | off_zero(p, state)


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


CLAIMS = (
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
    Claim("A-5.1.1-kink", "A Lemma 5.1.1, I Lemma 3", "f is not differentiable at 0", _RELU, off_zero, _kink),
    Claim("A-5.1.1-k1", "A Lemma 5.1.1, I Lemma 3", "k = 1: 0 is no local maximum", _RELU, _one_patch, _no_maximum),
    Claim("A-5.1.1-no-other", "A Lemma 5.1.1, I Lemma 3", "no further critical point", _RELU, _apart, _not_critical),
)
