"""Conditions and conclusions shared by several claims."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import angle, norm

from ..chosen import KINDS
from ..claim import Parameters, Run
from ..margins import Margins, at_least, at_most
from ..states import Limit, Path

ON_SPHERE = 4.0
"""L of A Lemma 5.1.2, 1 + 3‖w*‖/M, at ‖w*‖ = M = 1."""

MAX_RESIDUAL, MAX_SHARE = 1e-11, 1e-6
"""Largest residual of a limit, absolute and relative to β; the remaining residual enters the allowances.

β bounds the force of the splitting. Near −w* the gradient of the loss is small and β with it, so the residual is small
even far from every limit.
"""

AT_REST = "at rest"
"""Suffix of the conditions that a run has converged."""

ALL, NONCONVEX = KINDS, ("l0", "tl1")
"""Penalties of a claim."""


def no_conditions(p: Parameters, state: object) -> Margins:
    """Returns no conditions."""
    return {}


def small_splitting(p: Parameters) -> Margins:
    """Returns A and I Theorem 1 (iii): β <= δ sin δ/(kπ), λ/β < 1/√d."""
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


def converged(p: Parameters, limit: Limit) -> Margins:
    """Returns the condition that the residual is that of a limit."""
    return {AT_REST: at_most(limit.residual, jnp.minimum(MAX_RESIDUAL, MAX_SHARE * p.beta))}


def angle_descends(run: Run) -> Margins:
    """Returns θ^{t+1} <= θ^t."""
    theta = run.state.theta
    return {"θ": at_most(theta[1:], theta[:-1], math.pi)}


def angle_stays(run: Run) -> Margins:
    """Returns θ^t <= π − δ for all t."""
    return {"θ": at_most(run.state.theta, math.pi - run.parameters.delta, math.pi)}


def bisects(run: Run) -> Margins:
    """Returns that w^{t+1} − w^t makes acute angles with w^t and with w^{t+1}."""
    return _inner_products(run, 1.0)


def bisects_right(run: Run) -> Margins:
    """Returns the same with −w^t."""
    return _inner_products(run, -1.0)


def _inner_products(run: Run, sign: float) -> Margins:
    old, new = run.state.w[:-1], run.state.w[1:]
    change, which = new - old, "w^t" if sign > 0 else "−w^t"
    return {
        f"with {which}": at_least(sign * jnp.sum(change * old, -1), 0.0, 1.0),
        "with w^{t+1}": at_least(jnp.sum(change * new, -1), 0.0, 1.0),
    }


def lagrangian_descends(run: Run) -> Margins:
    """Returns L(u^{t+1}, w^{t+1}) <= L(u^t, w^t), t = 1, …"""
    high = run.state.high
    return {"L": at_most(high[1:], high[:-1], *lagrangian_terms(run))}


def lagrangian_terms(run: Run) -> tuple[Array, Array]:
    """Returns magnitudes that cancel in differences of the Lagrangian: squared norms and the Lagrangian."""
    largest = jnp.max(norm(run.state.w)) + norm(run.parameters.w_star)
    return jnp.square(largest), jnp.max(jnp.abs(run.state.low))


def limit_angles(p: Parameters, limit: Limit) -> tuple[Array, Array]:
    """Returns θ = ∠(w̄, w*) and γ = ∠(w̄, ū)."""
    return angle(limit.w, p.w_star), angle(limit.w, limit.u)


def position_error(p: Parameters, limit: Limit) -> Array:
    """Returns a generous bound on the error of a ReLU limit; to first order its angle is off by 2k·residual.

    The error grows when the force of the splitting nearly balances the curvature of the loss.
    """
    return 100 * p.k * limit.residual
