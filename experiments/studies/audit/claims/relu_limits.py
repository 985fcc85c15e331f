"""Claims on the limits of A Algorithm 1: ReLU, on the sphere."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import angle, norm, quotient, tangent, unit
from rvsmjax.problems import NoOverlapReLU

from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_least, at_most, equal
from ..states import Limit
from .shared import (
    ALL,
    NONCONVEX,
    ON_SPHERE,
    converged,
    limit_angles,
    position_error,
    rate,
    small_splitting,
    start_angle,
)

_LIMIT = "A limit"


def _theorem(p: Parameters, limit: Limit) -> Margins:
    """Returns the conditions of A Theorem 1; they imply steps <= 1/2 (claim A-4.2-move)."""
    start = start_angle(p, angle(limit.start, p.w_star))
    return rate(p, ON_SPHERE) | start | small_splitting(p) | converged(p, limit)


def _equation_12(p: Parameters, limit: Limit) -> tuple[Array, Array]:
    """Returns w* − (kπ/(π − θ))β(w̄ − ū), and kπ/(π − θ)."""
    theta, _ = limit_angles(p, limit)
    factor = quotient(p.k * math.pi, math.pi - theta)
    return p.w_star - factor * p.beta * (limit.w - limit.u), factor


def _parallel(p: Parameters, limit: Limit) -> Margins:
    """Returns equation (12) for some C."""
    left, factor = _equation_12(p, limit)
    return {
        "parallel to w̄": equal(
            norm(tangent(limit.w, left)), 0.0, 1 + factor * p.beta, error=2 * factor * limit.residual
        )
    }


def _constant(p: Parameters, limit: Limit) -> Array:
    """Returns C of equation (12)."""
    return quotient(jnp.sum(_equation_12(p, limit)[0] * unit(limit.w)), norm(limit.w))


def _printed_range(p: Parameters, limit: Limit) -> Margins:
    """Returns 0 < C <= 1/(1 − 2kλ√d), multiplied out."""
    c, room = _constant(p, limit), 1 - 2 * p.k * p.lam * jnp.sqrt(p.d)
    return {
        "C > 0": at_least(c, 0.0),
        "1/(1 − 2kλ√d) > 0": at_least(room, 0.0),
        "C(1 − 2kλ√d) ≤ 1": at_most(c * room, 1.0, error=position_error(p, limit)),
    }


def small_lambda(p: Parameters) -> Margins:
    """Returns 2kλ√d < 1, the hypothesis of the proof of (12)."""
    return {"2kλ√d < 1": at_most(2 * p.k * p.lam * jnp.sqrt(p.d), 1 - 1e-9)}


def _theorem_if(p: Parameters, limit: Limit) -> Margins:
    return _theorem(p, limit) | small_lambda(p)


def printed_equation_12(run: Run) -> Margins:
    """Returns equation (12) with the printed range of C."""
    return _parallel(*run) | _printed_range(*run)


def _equation_12_right(run: Run) -> Margins:
    p, limit = run
    c, factor = _constant(p, limit), _equation_12(p, limit)[1]
    least = 1 - factor * p.beta * norm(limit.w - limit.u)
    error = position_error(p, limit)
    return _parallel(p, limit) | {"C ≤ 1": at_most(c, 1.0, error=error), "C ≥ 1 − …": at_least(c, least, error=error)}


def close(run: Run) -> Margins:
    """Returns θ(w̄, w*) < δ."""
    p, limit = run
    return {"θ < δ": at_most(limit_angles(p, limit)[0], p.delta, error=position_error(p, limit))}


def _equilibrium(run: Run) -> Margins:
    p, limit = run
    theta, gamma = limit_angles(p, limit)
    left = (math.pi - theta) / (p.k * math.pi) * jnp.sin(theta)
    right = p.beta * norm(limit.u) * jnp.sin(gamma)
    return {"(17)": equal(left, right, 1 / p.k, p.beta, error=2 * limit.residual)}


def _bound_13(run: Run) -> Margins:
    p, limit = run
    theta, gamma = limit_angles(p, limit)
    distance, error = norm(limit.w - p.w_star), position_error(p, limit)
    return {
        "(13)": at_most(distance, 4 * p.k * p.beta * jnp.sin(gamma), 1.0, error=error),
        "‖w* − w̄‖ ≤ 2 sin θ": at_most(distance, 2 * jnp.sin(theta), 1.0, error=error),
    }


def _bound_14(run: Run) -> Margins:
    p, limit = run
    _, gamma = limit_angles(p, limit)
    right = 4 * p.k * p.beta * jnp.sin(gamma) + p.lam / p.beta * jnp.sqrt(p.d)
    return {"(14)": at_most(norm(limit.u - p.w_star), right, 1.0, error=position_error(p, limit))}


def _shrunk(run: Run) -> Margins:
    p, limit = run
    factor = _equation_12(p, limit)[1]
    error = position_error(p, limit) * p.k
    return {
        "sign of w̄ − ū": at_least((limit.w - limit.u) * jnp.sign(limit.w), 0.0),
        "k ≤ kπ/(π − θ)": at_least(factor, p.k, error=error),
        "kπ/(π − θ) ≤ 2k": at_most(factor, 2 * p.k, error=error),
    }


def _soft(run: Run) -> Margins:
    p, limit = run
    factor = _equation_12(p, limit)[1]
    soft = jnp.sign(p.w_star) * jnp.maximum(jnp.abs(p.w_star) - factor * p.lam, 0)
    error = 10 * position_error(p, limit)
    return {"w̄ ∥ S(w*)": equal(norm(tangent(limit.w, soft)), 0.0, 1.0, error=error)}


def _expanded(run: Run) -> Margins:
    """Compares w* with the expansion of w̄ in (12): where |w̄_i| ≤ λ/β it is a multiple of w̄_i, else a shift by κλ."""
    p, limit = run
    c, factor = _constant(p, limit), _equation_12(p, limit)[1]
    size = jnp.abs(limit.w)
    expanded = jnp.where(p.beta * size <= p.lam, (c + factor * p.beta) * size, c * size + factor * p.lam)
    error = 4 * factor * limit.residual
    return {
        "|w*|": equal(expanded, jnp.abs(p.w_star), 1 + factor * p.beta, error=error),
        "w̄ = 0 only where w* = 0": at_least((c + factor * p.beta) * size, jnp.abs(p.w_star), error=error),
    }


def _no_critical_point(run: Run) -> Margins:
    p, limit = run
    force = NoOverlapReLU(p.k).grad(limit.w, p.w_star) + p.beta * (limit.w - limit.u)
    # ‖w̄‖₁ ≥ 1, so β⟨w̄ − ū, w̄⟩ = Σ min(λ|w̄_i|, βw̄_i²) > 0, and the radial part of ∇f is not below 0.
    radial = jnp.sum(force * limit.w)
    least = jnp.sum(jnp.minimum(p.lam * jnp.abs(limit.w), p.beta * limit.w**2))
    return {
        "(16): ∇_w L ∥ w̄": equal(norm(tangent(limit.w, force)), 0.0, 1 / p.k, error=2 * limit.residual),
        "⟨∇_w L, w̄⟩ ≥ Σ min(λ|w̄_i|, βw̄_i²)": at_least(radial, least, 1 / p.k, error=2 * limit.residual),
    }


def _own_threshold(p: Parameters, limit: Limit) -> Margins:
    return _theorem(p, limit) | {"t < 1/√d": at_most(p.penalty.threshold(p.lam / p.beta), (1 - 1e-9) / jnp.sqrt(p.d))}


def _nonzero(run: Run) -> Margins:
    return {"ū ≠ 0": at_least(norm(run.state.u), 1e-14)}


CLAIMS = (
    Claim("A-thm1-close", "A Theorem 1, Corollary 1.1", "θ(w̄, w*) < δ", _LIMIT, _theorem, close, ALL),
    Claim(
        "A-eq12",
        "A Theorem 1, eq. 12",
        "w* − (kπ/(π − θ))β(w̄ − S(w̄)) = Cw̄ with 0 < C ≤ 1/(1 − 2kλ√d)",
        _LIMIT,
        _theorem,
        printed_equation_12,
    ),
    Claim(
        "A-eq12-right",
        "A Theorem 1, eq. 12",
        "the same with 1 − (kπ/(π − θ))β‖w̄ − ū‖ ≤ C ≤ 1",
        _LIMIT,
        _theorem,
        _equation_12_right,
        ALL,
    ),
    Claim("A-eq13", "A Theorem 1, eq. 13", "‖w* − w̄‖ ≤ 4kβ sin γ", _LIMIT, _theorem, _bound_13),
    Claim("A-eq14", "A Theorem 1, eq. 14", "‖w* − ū‖ ≤ 4kβ sin γ + (λ/β)√d", _LIMIT, _theorem, _bound_14),
    Claim("A-eq17", "A eq. 17", "((π − θ)/(kπ)) sin θ = β‖ū‖ sin γ", _LIMIT, _theorem, _equilibrium, ALL),
    Claim("A-4.2", "A Remark 4.2", "w̄ − ū has the signs of w̄, and k ≤ kπ/(π − θ) ≤ 2k", _LIMIT, _theorem, _shrunk, ALL),
    Claim("A-thm1-nonzero", "A proof of Theorem 1", "λ/β < 1/√d gives ū ≠ 0", _LIMIT, _theorem, _nonzero),
    Claim(
        "A-cor1.1-eq12",
        "A Corollary 1.1",
        "(12) with the penalty's own thresholding",
        _LIMIT,
        _theorem,
        printed_equation_12,
        NONCONVEX,
    ),
    Claim("A-cor1.1-eq13", "A Corollary 1.1", "(13) with the penalty's own γ", _LIMIT, _theorem, _bound_13, NONCONVEX),
    Claim(
        "A-cor1.1-nonzero",
        "A Corollary 1.1",
        "'under similar conditions': a threshold of the penalty below 1/√d gives ū ≠ 0",
        _LIMIT,
        _own_threshold,
        _nonzero,
        NONCONVEX,
    ),
    Claim("A-eq12-if", "A Theorem 1, eq. 12", "(12) where 2kλ√d < 1", _LIMIT, _theorem_if, printed_equation_12),
    Claim(
        "A-cor1.1-eq12-if",
        "A Corollary 1.1",
        "(12) with the penalty's own thresholding where 2kλ√d < 1",
        _LIMIT,
        _theorem_if,
        printed_equation_12,
        NONCONVEX,
    ),
    Claim(
        "A-4.1",
        "A Remark 4.1, eq. 16",
        "the limit is no critical point: ∇_w L is a positive multiple of w̄",
        _LIMIT,
        _theorem,
        _no_critical_point,
    ),
    Claim(
        "A-4.2-soft",
        "A Remark 4.2, proof of Theorem 1",
        "w̄ is the normalised soft thresholding of w*, at kπλ/(π − θ)",
        _LIMIT,
        _theorem,
        _soft,
    ),
    Claim(
        "A-4.2-soft-right",
        "A eq. 12",
        "|w*_i| = C|w̄_i| + (kπ/(π − θ)) min(β|w̄_i|, λ): w̄ has no zero that w* does not have",
        _LIMIT,
        _theorem,
        _expanded,
    ),
)
