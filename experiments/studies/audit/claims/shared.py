"""Conditions and conclusions that several claims have in common."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import angle, norm

from ..claim import Parameters, Run
from ..margins import Margins, at_least, at_most
from ..states import Limit, Path

ON_SPHERE = 4.0
"""L of A Lemma 5.1.2, 1 + 3‖w*‖/M, at ‖w*‖ = M = 1."""

SETTLED, SHARE = 1e-11, 1e-6
"""Residual, and its share of β, under which a point counts as a limit; what is left of it enters the allowances.

β is the largest pull of the splitting. Beside −w*, where the loss hardly pulls, β is small and so is the residual of
points that are far from any limit.
"""


def nothing(p: Parameters, state: object) -> Margins:
    """Returns no conditions."""
    return {}


def small_splitting(p: Parameters) -> Margins:
    """Returns A Theorem 1 (iii), I Theorem 1 (iii): β <= δ sin δ/(kπ), λ/β < 1/√d."""
    return {
        "β": at_most(p.beta, p.delta * jnp.sin(p.delta) / (p.k * math.pi)),
        "λ/β": at_most(p.lam / p.beta, 1 / jnp.sqrt(p.d)),
    }


def start_angle(p: Parameters, theta: Array) -> Margins:
    """Returns θ(w⁰, w*) <= π − δ."""
    return {"θ⁰": at_most(theta, math.pi - p.delta, math.pi)}


def rate(p: Parameters, lipschitz: Array | float) -> Margins:
    """Returns η <= 1/(β + L)."""
    return {"η": at_most(p.learning_rate, 1 / (p.beta + lipschitz))}


def half_move(path: Path) -> Margins:
    """Returns ‖η∇f(w^t) + ηβ(w^t − u^{t+1})‖ <= 1/2 for all t."""
    return {"move": at_most(path.move, 0.5)}


def settled(p: Parameters, limit: Limit) -> Margins:
    """Returns that the residual is small enough to call the point a limit."""
    return {"at rest": at_most(limit.residual, jnp.minimum(SETTLED, SHARE * p.beta))}


def angle_descends(run: Run) -> Margins:
    """Returns θ^{t+1} <= θ^t."""
    theta = run.state.theta
    return {"θ": at_most(theta[1:], theta[:-1], math.pi)}


def angle_stays(run: Run) -> Margins:
    """Returns θ^t <= π − δ for all t."""
    return {"θ": at_most(run.state.theta, math.pi - run.parameters.delta, math.pi)}


def lagrangian_descends(run: Run) -> Margins:
    """Returns L(u^{t+1}, w^{t+1}) <= L(u^t, w^t), t = 1, …"""
    high = run.state.high
    return {"L": at_most(high[1:], high[:-1], *size(run))}


def size(run: Run) -> tuple[Array, Array]:
    """Returns the magnitudes that cancel in a Lagrangian: norms squared, and λP(u)."""
    largest = jnp.max(norm(run.state.w)) + norm(run.parameters.w_star)
    return jnp.square(largest), jnp.max(jnp.abs(run.state.low))


def limit_angles(p: Parameters, limit: Limit) -> tuple[Array, Array]:
    """Returns θ = ∠(w̄, w*) and γ = ∠(w̄, ū)."""
    return angle(limit.w, p.w_star), angle(limit.w, limit.u)


def off(p: Parameters, limit: Limit) -> Array:
    """Returns how far a ReLU limit may be from its true place: its angle by 2k·residual, with room to spare.

    The room is for a splitting that pulls nearly as hard as the loss: then the point gives way more.
    """
    return 100 * p.k * limit.residual


def positive(value: Array) -> Margins:
    """Returns C > 0."""
    return {"C > 0": at_least(value, 0.0)}
