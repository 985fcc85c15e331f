"""Claims on the iterates of F Algorithm 1: binary activation, coarse gradient, on the sphere."""

from __future__ import annotations

import functools
import math

import jax.numpy as jnp

from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_most
from ..states import Path
from .shared import (
    ALL,
    NONCONVEX,
    angle_descends,
    angle_stays,
    bisects,
    bisects_right,
    half_move,
    lagrangian_descends,
    lagrangian_terms,
    start_angle,
)

_PATH = "F path"

PRINTED = 1 / (2 * math.sqrt(2 * math.pi))
"""c/(2k) as printed in F from Lemma 5 on, without the factor √(2/π) of eq. 8."""
RIGHT = 1 / (2 * math.pi)
"""c/(2k) with that factor, as in F eq. 18."""


def small_splitting(p: Parameters, half: float) -> Margins:
    """Returns F Theorem 1 (ii): β <= (c/2) sin δ, λ < (c/2)/√d, with c/2 = half·k."""
    return {
        "β": at_most(p.beta, half * p.k * jnp.sin(p.delta)),
        "λ": at_most(p.lam, half * p.k / jnp.sqrt(p.d)),
    }


def rate(p: Parameters) -> Margins:
    """Returns F Theorem 1 (iii) on η, with the largest L of its proof, k/π."""
    bound = jnp.minimum(1 / (p.beta + p.k / math.pi), 2 * math.sqrt(2 * math.pi) / p.k)
    return {"η": at_most(p.learning_rate, bound)}


def _theorem(p: Parameters, path: Path, half: float) -> Margins:
    return start_angle(p, path.theta[0]) | small_splitting(p, half) | rate(p) | half_move(path)


_printed = functools.partial(_theorem, half=PRINTED)
_right = functools.partial(_theorem, half=RIGHT)


def _descending(p: Parameters, path: Path) -> Margins:
    """Adds the condition that the angle decreases in every step, for which F eq. 17 is correct."""
    return _right(p, path) | {"θ falls": angle_descends(Run(p, path))["θ"]}


def _rate_alone(p: Parameters, path: Path) -> Margins:
    """Returns the conditions of F Lemma 6, and the bound on the moves that its proof assumes."""
    return rate(p) | half_move(path)


def _rate_descending(p: Parameters, path: Path) -> Margins:
    return _rate_alone(p, path) | {"θ falls": angle_descends(Run(p, path))["θ"]}


def _follows_the_angle(run: Run) -> Margins:
    """Returns the descent of L where that of θ is a condition, which holds to rounding: f = kθ/(2π) follows it."""
    high = run.state.high
    return {"L": at_most(high[1:], high[:-1], *lagrangian_terms(run), run.parameters.k)}


_WIDE = "F path, any β"

CLAIMS = (
    Claim("F-lemma5", "F Lemma 5", "θ^{t+1} ≤ θ^t", _PATH, _printed, angle_descends),
    Claim(
        "F-lemma5-stays",
        "F proof of Lemma 5",
        "θ(w⁰, w*) ≤ π − δ gives θ(w^t, w*) ≤ π − δ, with β ≤ k sin δ/(2√(2π))",
        _PATH,
        _printed,
        angle_stays,
        ALL,
    ),
    Claim(
        "F-lemma5-stays-right", "F proof of Lemma 5", "the same with β ≤ k sin δ/(2π)", _PATH, _right, angle_stays, ALL
    ),
    Claim(
        "F-lemma6", "F Lemma 6, Theorem 1", "L(u^{t+1}, w^{t+1}) ≤ L(u^t, w^t)", _PATH, _printed, lagrangian_descends
    ),
    Claim(
        "F-lemma6-right",
        "F Lemma 6, Theorem 1",
        "the same on paths whose angle falls in every step",
        _PATH,
        _descending,
        _follows_the_angle,
        ALL,
    ),
    Claim(
        "F-cor1.1-angle", "F section 4 on Corollary 1.1", "θ^{t+1} ≤ θ^t", _PATH, _printed, angle_descends, NONCONVEX
    ),
    Claim(
        "F-cor1.1-lagrangian",
        "F proof of Corollary 1.1",
        "L(u^{t+1}, w^{t+1}) ≤ L(u^t, w^t)",
        _PATH,
        _printed,
        lagrangian_descends,
        NONCONVEX,
    ),
    Claim(
        "F-lemma6-wide",
        "F Lemma 6",
        "η ≤ 1/(β + L) gives L(u^{t+1}, w^{t+1}) ≤ L(u^t, w^t), for every β, here up to 50, and every λ",
        _WIDE,
        _rate_alone,
        lagrangian_descends,
        ALL,
    ),
    Claim(
        "F-lemma6-wide-right",
        "F Lemma 6",
        "the same on paths whose angle falls in every step",
        _WIDE,
        _rate_descending,
        _follows_the_angle,
        ALL,
    ),
    Claim(
        "F-lemma6-bisects",
        "F proof of Lemma 6",
        "w^{t+1} − w^t makes angles below π/2 with w^t and with w^{t+1}",
        _PATH,
        _printed,
        bisects,
        ALL,
    ),
    Claim(
        "F-lemma6-bisects-right",
        "F proof of Lemma 6",
        "w^{t+1} − w^t makes angles of at most π/2 with −w^t and with w^{t+1}",
        _PATH,
        _printed,
        bisects_right,
        ALL,
    ),
)
