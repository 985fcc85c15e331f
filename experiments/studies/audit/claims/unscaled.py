"""Claims of I: ReLU, without normalisation."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import angle, norm
from rvsmjax.problems import NoOverlapReLU

from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_least, at_most
from ..states import Limit, Path
from .relu_limits import close, printed_equation_12
from .shared import (
    ALL,
    NONCONVEX,
    angle_descends,
    angle_stays,
    converged,
    lagrangian_descends,
    limit_angles,
    position_error,
    rate,
    small_splitting,
    start_angle,
)

_PATH, _LIMIT = "I path", "I limit"

_ORDER = 10.0
"""Constant assumed in an O(·)."""


def _constant(path: Path) -> Array:
    """Returns 1 + 3‖w*‖/M (I Lemma 4), M the smallest norm on the path."""
    return 1 + 3 / jnp.min(norm(path.w))


def _small_rate(p: Parameters, path: Path) -> Margins:
    return rate(p, _constant(path))


def _theorem(p: Parameters, path: Path) -> Margins:
    several = {"k ≥ 2": at_least(p.k, 2.0)}
    return _small_rate(p, path) | start_angle(p, path.theta[0]) | several | small_splitting(p)


def _limit_theorem(p: Parameters, limit: Limit) -> Margins:
    several = {"k ≥ 2": at_least(p.k, 2.0)}
    return start_angle(p, angle(limit.start, p.w_star)) | several | small_splitting(p) | converged(p, limit)


def _lipschitz(run: Run) -> Margins:
    p, path = run
    slope = NoOverlapReLU(p.k).grad(path.w, p.w_star)
    change, moved = norm(slope[1:] - slope[:-1]), norm(path.w[1:] - path.w[:-1])
    return {"L": at_most(change, _constant(path) * moved, jnp.max(norm(path.w)))}


def _grows(run: Run) -> Margins:
    lengths = norm(run.state.w)
    gain = jnp.where(lengths[:-1] < 1, lengths[1:] - lengths[:-1], 1.0)
    loss = jnp.where(lengths[:-1] > 1, lengths[:-1] - lengths[1:], 1.0)
    return {"‖w^t‖ < ‖w*‖ grows": at_least(gain, 0.0, 1.0), "‖w^t‖ > ‖w*‖ shrinks": at_least(loss, 0.0, 1.0)}


def _converges_fast(run: Run) -> Margins:
    p, path = run
    least = jnp.min(jnp.square(path.move / p.learning_rate))
    return {"min ‖∇L‖² ≤ 2L⁰/(ηT)": at_most(least, 2 * path.low[0] / (p.learning_rate * path.move.shape[0]))}


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


def _annulus(run: Run) -> Margins:
    length = norm(run.state.w)
    return {"‖w̄‖ > 0": at_least(length, 1e-6), "‖w̄‖ < 2‖w*‖": at_most(length, 2.0)}


CLAIMS = (
    Claim(
        "I-lemma2", "I Lemma 2", "∇f is Lipschitz along the iterates, with 1 + 3/M", _PATH, _small_rate, _lipschitz, ALL
    ),
    Claim(
        "I-lemma5-grows",
        "I proof of Lemma 5",
        "‖w^{t+1}‖ > ‖w^t‖ where ‖w^t‖ < ‖w*‖, and < where >",
        _PATH,
        _theorem,
        _grows,
    ),
    Claim(
        "I-lemma5",
        "I Lemma 5",
        "in the end ‖w^t‖ lies in an annulus around ‖w*‖",
        _LIMIT,
        _limit_theorem,
        _annulus,
        ALL,
    ),
    Claim(
        "I-lemma6",
        "I Lemma 6, Theorem 1, Corollary 2",
        "η ≤ 1/(β + L) gives L(u^{t+1}, w^{t+1}) ≤ L(u^t, w^t)",
        _PATH,
        _small_rate,
        lagrangian_descends,
        ALL,
    ),
    Claim(
        "I-lemma6-late",
        "I Algorithm 1 as printed, Theorem 1",
        "the same where w^{t+1} uses u^t = S(w^{t−1}), as the algorithm prints",
        "I late path",
        _small_rate,
        lagrangian_descends,
        ALL,
    ),
    Claim("I-thm1-stays", "I proof of Theorem 1", "θ^t ≤ π − δ for all t", _PATH, _theorem, angle_stays, ALL),
    Claim("I-thm1-monotone", "I Theorem 1, Corollary 2", "θ^{t+1} ≤ θ^t", _PATH, _theorem, angle_descends, ALL),
    Claim(
        "I-thm1-rate",
        "I Theorem 1 (ii)",
        "∇_w L = O(ε) in O(1/ε²) steps, here with the constant of the proof",
        _PATH,
        _theorem,
        _converges_fast,
        ALL,
    ),
    Claim("I-thm1-i", "I Theorem 1 (i), Corollary 2", "∇_w L(w̄, ū) = 0", _LIMIT, _limit_theorem, _stationary, ALL),
    Claim("I-thm1-close", "I Theorem 1 (iii), Corollary 2", "θ(w̄, w*) < δ", _LIMIT, _limit_theorem, close, ALL),
    Claim("I-thm1-iii", "I Theorem 1 (iii)", "‖w̄ − w*‖ = O(β), here ≤ 10kβ", _LIMIT, _limit_theorem, _distance, ALL),
    Claim(
        "I-thm1-chord",
        "I proof of Theorem 1",
        "‖w̄ − w*‖ = O(sin θ) = O(kβ sin γ), here with a factor 10",
        _LIMIT,
        _limit_theorem,
        _chord,
        ALL,
    ),
    Claim("I-thm1-chord-right", "I proof of Theorem 1", "‖w̄ − w*‖ ≤ 4kβ‖w̄ − ū‖", _LIMIT, _limit_theorem, _gap, ALL),
    Claim(
        "I-eq12",
        "I Corollary 1, eq. 12",
        "w* = (kπ/(π − θ))β(w̄ − ū) + Cw̄, 0 < C < 1/(1 − 2kλ√d)",
        _LIMIT,
        _limit_theorem,
        printed_equation_12,
    ),
    Claim(
        "I-cor2-eq12",
        "I Corollary 2",
        "(12) with the penalty's own thresholding",
        _LIMIT,
        _limit_theorem,
        printed_equation_12,
        NONCONVEX,
    ),
)
