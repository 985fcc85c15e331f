"""Claims of I: ReLU, without normalisation."""

from __future__ import annotations

import jax.numpy as jnp

from rvsmjax.geometry import norm, unit
from rvsmjax.problems import NoOverlapReLU

from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_most
from ..states import Limit, Path
from .relu_limits import close, printed_equation_12, small_lambda
from .shared import (
    ALL,
    NONCONVEX,
    angle_descends,
    angle_stays,
    lagrangian_descends,
    limit_angles,
    position_error,
)
from .unscaled_lengths import CLAIMS as LENGTHS
from .unscaled_lengths import constant, limit_theorem, small_rate, theorem

_PATH, _LIMIT = "I path", "I limit"

_ORDER = 10.0
"""Constant assumed in an O(·)."""


def _lipschitz(run: Run) -> Margins:
    p, path = run
    slope = NoOverlapReLU(p.k).grad(path.w, p.w_star)
    change, moved = norm(slope[1:] - slope[:-1]), norm(path.w[1:] - path.w[:-1])
    return {"L": at_most(change, constant(path) * moved, jnp.max(norm(path.w)))}


def _converges_fast(run: Run) -> Margins:
    p, path = run
    least = jnp.min(jnp.square(path.move / p.learning_rate))
    return {"min ‖∇L‖² ≤ 2L⁰/(ηT)": at_most(least, 2 * path.low[0] / (p.learning_rate * path.move.shape[0]))}


def _twice_the_rate(p: Parameters, path: Path) -> Margins:
    return {"η ≤ 2/(β + L)": at_most(p.learning_rate, 2 / (p.beta + constant(path)))}


def _triangle(run: Run) -> Margins:
    """Returns (16) with L₃ = 3. In the plane of A = w^t and w*, B = v^{t+1} has the norm and angle of C = w^{t+1}."""
    p, path = run
    star, old, new = unit(p.w_star), path.w[:-1], path.w[1:]
    theta = path.theta[1:, None]
    # Where w^t is parallel to w*, every plane through both serves: that of w^{t+1}.
    side = old - jnp.sum(old * star, -1, keepdims=True) * star
    other = new - jnp.sum(new * star, -1, keepdims=True) * star
    lost = norm(side) <= 1e-12 * norm(old)
    # The plane is rounded the more, the more nearly parallel w^t is to w*; v moves with it in proportion to sin θ.
    tilt = jnp.where(lost, 1.0, norm(old) / norm(jnp.where(lost[:, None], 1.0, side)))
    error = 8 * jnp.finfo(new.dtype).eps * tilt * norm(new) * jnp.sin(path.theta[1:])
    side = unit(jnp.where(lost[:, None], other, side))
    v = norm(new)[:, None] * (jnp.cos(theta) * star + jnp.sin(theta) * side)
    far = norm(new - old)
    return {
        "|AB| ≤ |AC|": at_most(norm(old - v), far, norm(old), error=error),
        "|BC| ≤ 2|AC|": at_most(norm(v - new), 2 * far, norm(old), error=error),
    }


def _unit_partner(run: Run) -> Margins:
    return {"‖u^{t+1}‖ ≤ 1": at_most(norm(run.state.u), 1.0)}


def _shorter_partner(run: Run) -> Margins:
    return {"‖u^{t+1}‖ ≤ ‖w^t‖": at_most(norm(run.state.u), norm(run.state.w))}


def _limit_theorem_if(p: Parameters, limit: Limit) -> Margins:
    return limit_theorem(p, limit) | small_lambda(p)


def _stationary(run: Run) -> Margins:
    p, limit = run
    force = NoOverlapReLU(p.k).grad(limit.w, p.w_star) + p.beta * (limit.w - limit.u)
    return {"∇_w L = 0": at_most(norm(force), 0.0, 1.0, error=2 * limit.residual)}


def _distance(run: Run) -> Margins:
    p, limit = run
    return {"‖w̄ − w*‖ ≤ 10kβ": at_most(norm(limit.w - p.w_star), _ORDER * p.k * p.beta, error=position_error(p, limit))}


def _chord(run: Run) -> Margins:
    p, limit = run
    theta, gamma = limit_angles(p, limit)
    distance, error = norm(limit.w - p.w_star), position_error(p, limit) * _ORDER
    return {
        "‖w̄ − w*‖ ≤ 10 sin θ": at_most(distance, _ORDER * jnp.sin(theta), 1.0, error=error),
        "‖w̄ − w*‖ ≤ 10kβ sin γ": at_most(distance, _ORDER * p.k * p.beta * jnp.sin(gamma), 1.0, error=error),
    }


def _gap(run: Run) -> Margins:
    p, limit = run
    right = 4 * p.k * p.beta * norm(limit.w - limit.u)
    return {"‖w̄ − w*‖ ≤ 4kβ‖w̄ − ū‖": at_most(norm(limit.w - p.w_star), right, 1.0, error=position_error(p, limit))}


CLAIMS = (
    Claim(
        "I-lemma2", "I Lemma 2", "∇f is Lipschitz along the iterates, with 1 + 3/M", _PATH, small_rate, _lipschitz, ALL
    ),
    *LENGTHS,
    Claim(
        "I-lemma6",
        "I Lemma 6, Theorem 1, Corollary 2",
        "η ≤ 1/(β + L) gives L(u^{t+1}, w^{t+1}) ≤ L(u^t, w^t)",
        _PATH,
        small_rate,
        lagrangian_descends,
        ALL,
    ),
    Claim(
        "I-lemma6-late",
        "I Algorithm 1 as printed, Theorem 1",
        "the same where w^{t+1} uses u^t = S(w^{t−1}), as the algorithm prints",
        "I late path",
        small_rate,
        lagrangian_descends,
        ALL,
    ),
    Claim(
        "I-lemma6-wide",
        "I Lemma 6 and its proof, section 4",
        "η ≤ 2/(β + L) gives L(u^{t+1}, w^{t+1}) ≤ L(u^t, w^t), for every β, here up to 50, and every λ",
        "I path, any β",
        _twice_the_rate,
        lagrangian_descends,
        ALL,
    ),
    Claim(
        "I-lemma6-late-wide",
        "I Algorithm 1 as printed, Lemma 6",
        "η ≤ 1/(β + L) gives the same for every β where w^{t+1} uses u^t = S(w^{t−1}), as the algorithm prints",
        "I late path, any β",
        small_rate,
        lagrangian_descends,
        ALL,
    ),
    Claim(
        "I-eq16", "I proof of Lemma 2, eq. 16", "|AB| + |BC| ≤ L₃|AC|, here L₃ = 3", _PATH, small_rate, _triangle, ALL
    ),
    Claim("I-thm1-u", "I proof of Theorem 1", "‖u^{t+1}‖ ≤ 1", _PATH, theorem, _unit_partner, ALL),
    Claim("I-thm1-u-right", "I proof of Theorem 1", "‖u^{t+1}‖ ≤ ‖w^t‖", _PATH, theorem, _shorter_partner, ALL),
    Claim("I-thm1-stays", "I proof of Theorem 1", "θ^t ≤ π − δ for all t", _PATH, theorem, angle_stays, ALL),
    Claim(
        "I-thm1-monotone",
        "I section 4 on Theorem 1, Corollary 2",
        "θ^{t+1} ≤ θ^t",
        _PATH,
        theorem,
        angle_descends,
        ALL,
    ),
    Claim(
        "I-thm1-rate",
        "I Theorem 1 (ii)",
        "∇_w L = O(ε) in O(1/ε²) steps, here with the constant of the proof",
        _PATH,
        theorem,
        _converges_fast,
        ALL,
    ),
    Claim("I-thm1-i", "I Theorem 1 (i), Corollary 2", "∇_w L(w̄, ū) = 0", _LIMIT, limit_theorem, _stationary, ALL),
    Claim("I-thm1-close", "I Theorem 1 (iii), Corollary 2", "θ(w̄, w*) < δ", _LIMIT, limit_theorem, close, ALL),
    Claim("I-thm1-iii", "I Theorem 1 (iii)", "‖w̄ − w*‖ = O(β), here ≤ 10kβ", _LIMIT, limit_theorem, _distance, ALL),
    Claim(
        "I-thm1-chord",
        "I proof of Theorem 1",
        "‖w̄ − w*‖ = O(sin θ) = O(kβ sin γ), here with a factor 10",
        _LIMIT,
        limit_theorem,
        _chord,
        ALL,
    ),
    Claim("I-thm1-chord-right", "I proof of Theorem 1", "‖w̄ − w*‖ ≤ 4kβ‖w̄ − ū‖", _LIMIT, limit_theorem, _gap, ALL),
    Claim(
        "I-eq12",
        "I Corollary 1, eq. 12",
        "w* = (kπ/(π − θ))β(w̄ − ū) + Cw̄, 0 < C < 1/(1 − 2kλ√d)",
        _LIMIT,
        limit_theorem,
        printed_equation_12,
    ),
    Claim(
        "I-cor2-eq12",
        "I Corollary 2",
        "(12) with the penalty's own thresholding",
        _LIMIT,
        limit_theorem,
        printed_equation_12,
        NONCONVEX,
    ),
    Claim("I-eq12-if", "I Corollary 1, eq. 12", "(12) where 2kλ√d < 1", _LIMIT, _limit_theorem_if, printed_equation_12),
    Claim(
        "I-cor2-eq12-if",
        "I Corollary 2",
        "(12) with the penalty's own thresholding where 2kλ√d < 1",
        _LIMIT,
        _limit_theorem_if,
        printed_equation_12,
        NONCONVEX,
    ),
)
