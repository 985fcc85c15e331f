"""Claims of I on ‖w^t‖, without normalisation, and the conditions of its theorem."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import angle, norm

from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_least, at_most
from ..states import Limit, Path
from .shared import ALL, converged, rate, small_splitting, start_angle

_PATH, _LIMIT = "I path", "I limit"


def constant(path: Path) -> Array:
    """Returns 1 + 3‖w*‖/M (I Lemma 4), M the smallest norm on the path."""
    return 1 + 3 / jnp.min(norm(path.w))


def small_rate(p: Parameters, path: Path) -> Margins:
    """Returns the condition on η."""
    return rate(p, constant(path))


def theorem(p: Parameters, path: Path) -> Margins:
    """Returns the conditions of Theorem 1 along a path."""
    several = {"k ≥ 2": at_least(p.k, 2.0)}
    return small_rate(p, path) | start_angle(p, path.theta[0]) | several | small_splitting(p)


def limit_theorem(p: Parameters, limit: Limit) -> Margins:
    """Returns those at a limit."""
    several = {"k ≥ 2": at_least(p.k, 2.0)}
    return start_angle(p, angle(limit.start, p.w_star)) | several | small_splitting(p) | converged(p, limit)


def _grows(run: Run) -> Margins:
    lengths = norm(run.state.w)
    gain = jnp.where(lengths[:-1] < 1, lengths[1:] - lengths[:-1], 1.0)
    loss = jnp.where(lengths[:-1] > 1, lengths[:-1] - lengths[1:], 1.0)
    return {"‖w^t‖ < ‖w*‖ grows": at_least(gain, 0.0, 1.0), "‖w^t‖ > ‖w*‖ shrinks": at_least(loss, 0.0, 1.0)}


def _vanishing(run: Run) -> Margins:
    """Returns the claim on M_k: below ‖w*‖ for every k, and below 0.05 at k = 1000."""
    k, length = run.parameters.k, norm(run.state.w)
    gap = jnp.abs(length - 1)
    return {
        "M_k < ‖w*‖": at_most(gap, 1 - 1e-9),
        "M_k → 0: M_k ≤ 0.05 at k = 1000": at_most(jnp.where(k >= 1e3, gap, 0.0), 0.05),
    }


def _norm_bound(run: Run) -> Margins:
    """Returns the bounds that the radial part of ∇_w L = 0 gives.

    (1 + (k − 1)/π)(‖w*‖ − ‖w̄‖) = ‖w*‖(1 − (sin θ + (π − θ)cos θ)/π) + kβ⟨w̄ − ū, w̄⟩/‖w̄‖.
    """
    p, limit = run
    gap = 1 - norm(limit.w)
    error = 2 * math.pi * p.k * limit.residual
    right = math.pi * (1 / p.k + p.beta * norm(limit.w - limit.u))
    return {
        "‖w̄‖ ≤ ‖w*‖": at_least(gap, 0.0, 1.0, error=error),
        "‖w*‖ − ‖w̄‖ ≤ π(‖w*‖/k + β‖w̄ − ū‖)": at_most(gap, right, 1.0, error=error),
    }


def _annulus(run: Run) -> Margins:
    length = norm(run.state.w)
    return {"‖w̄‖ > 0": at_least(length, 1e-6), "‖w̄‖ < 2‖w*‖": at_most(length, 2.0)}


def _off_opposite(p: Parameters, limit: Limit) -> Margins:
    """Returns rest, w̄ ≠ 0 and w⁰ not parallel to −w*, from where k = 1 leads to 0."""
    return {"θ⁰ < π": at_most(angle(limit.start, p.w_star), math.pi - 1e-3)} | converged(p, limit)


CLAIMS = (
    Claim(
        "I-lemma5-grows",
        "I proof of Lemma 5",
        "‖w^{t+1}‖ > ‖w^t‖ where ‖w^t‖ < ‖w*‖, and < where >",
        _PATH,
        theorem,
        _grows,
    ),
    Claim(
        "I-lemma5-annulus",
        "I section 4",
        "in the end ‖w^t‖ lies in an annulus around ‖w*‖, under the conditions of Theorem 1",
        _LIMIT,
        limit_theorem,
        _annulus,
        ALL,
    ),
    Claim(
        "I-lemma5",
        "I Lemma 5",
        "for k ≥ 1 and any β, ‖w^t‖ ends within M_k of ‖w*‖, M_k < ‖w*‖, M_k → 0 as k → ∞ (here: ≤ 0.05 at k = 1000)",
        "I limit, any β",
        _off_opposite,
        _vanishing,
        ALL,
    ),
    Claim(
        "I-lemma5-right",
        "I Lemma 5",
        "0 ≤ ‖w*‖ − ‖w̄‖ ≤ π(‖w*‖/k + β‖w̄ − ū‖) for k ≥ 1 and any β, so M_k = O(1/k) where β = O(1/k)",
        "I limit, any β",
        _off_opposite,
        _norm_bound,
        ALL,
    ),
)
