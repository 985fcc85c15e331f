"""Claims on the limits of F Algorithm 1: binary activation, on the sphere."""

from __future__ import annotations

import functools
import math

import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import angle, norm, tangent

from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_least, at_most, equal
from ..states import Limit
from .binary_paths import PRINTED, RIGHT, rate, small_splitting
from .shared import ALL, NONCONVEX, converged, limit_angles, start_angle

_LIMIT = "F limit"


def _theorem(p: Parameters, limit: Limit, half: float) -> Margins:
    start = start_angle(p, angle(limit.start, p.w_star))
    return start | small_splitting(p, half) | rate(p) | converged(p, limit)


def _error(p: Parameters, limit: Limit) -> Array:
    """Returns a generous bound on the error of the limit; its angle is off by residual/(c/2)/cos θ."""
    return 1000 * math.pi / p.k * limit.residual


def _close(run: Run) -> Margins:
    p, limit = run
    return {"θ < δ": at_most(limit_angles(p, limit)[0], p.delta, math.pi, error=_error(p, limit))}


def _parallel(run: Run, half: float) -> tuple[Margins, Array]:
    """Returns eq. 12 for some C, and that C."""
    p, limit = run
    left = p.w_star - p.beta / (half * p.k) * (limit.w - limit.u)
    error = 2 / (half * p.k) * limit.residual
    across = norm(tangent(limit.w, left))
    return {"parallel to w̄": equal(across, 0.0, 1 + p.beta / (half * p.k), error=error)}, jnp.sum(left * limit.w)


def _eq_12_printed(run: Run) -> Margins:
    p, limit = run
    margins, c = _parallel(run, PRINTED)
    least = (p.k - 2 * p.lam * jnp.sqrt(2 * math.pi * p.d)) / p.k
    return margins | {"C ≥ (k − 2λ√(2πd))/k": at_least(c, least, error=_error(p, limit))}


def _eq_12_other(run: Run) -> Margins:
    return _parallel(run, PRINTED)[0]


def _eq_12_right(run: Run) -> Margins:
    p, limit = run
    margins, c = _parallel(run, RIGHT)
    size = norm(limit.w - limit.u) * p.beta / (RIGHT * p.k)
    return margins | {"|C| ≥ 1 − (2π/k)β‖w̄ − ū‖": at_least(jnp.abs(c), 1 - size, error=_error(p, limit))}


def _bound_13(run: Run, factor: float) -> Margins:
    p, limit = run
    _, gamma = limit_angles(p, limit)
    bound = factor * p.beta * jnp.sin(gamma) / p.k
    return {"(13)": at_most(norm(limit.w - p.w_star), bound, 1.0, error=_error(p, limit))}


def _equilibrium(run: Run, half: float) -> Margins:
    p, limit = run
    theta, gamma = limit_angles(p, limit)
    right = p.beta * norm(limit.u) * jnp.sin(gamma)
    return {"(22)": equal(half * p.k * jnp.sin(theta), right, p.k, p.beta, error=2 * limit.residual)}


def _sparse(run: Run) -> Margins:
    """Returns that w̄ has a zero that w* lacks, where ū has."""
    p, limit = run
    zeros, own = (jnp.sum(jnp.where(p.w_star != 0, v == 0, False), dtype=limit.w.dtype) for v in (limit.w, limit.u))
    return {"w̄ has zeros where ū has": at_least(zeros, jnp.minimum(own, 1))}


def _expanded(run: Run) -> Margins:
    """Returns |w*_i| ≤ (|C| + (2π/k)β)|w̄_i|, by (12) and |w̄_i − ū_i| ≤ |w̄_i|."""
    p, limit = run
    _, c = _parallel(run, RIGHT)
    factor = p.beta / (RIGHT * p.k)
    right = (jnp.abs(c) + factor) * jnp.abs(limit.w)
    return {"w̄ = 0 only where w* = 0": at_most(jnp.abs(p.w_star), right, 1 + factor, error=_error(p, limit))}


_printed = functools.partial(_theorem, half=PRINTED)
_right = functools.partial(_theorem, half=RIGHT)
_FIXED = "the same with c/2 = k/(2π)"

CLAIMS = (
    Claim("F-thm1-close", "F Theorem 1 (i), Corollary 1.1", "θ(w̄, w*) < δ", _LIMIT, _printed, _close, ALL),
    Claim("F-thm1-close-right", "F Theorem 1 (i), Corollary 1.1", _FIXED, _LIMIT, _right, _close, ALL),
    Claim(
        "F-eq12",
        "F Theorem 1 (ii), eq. 12",
        "w* = (2√(2π)/k)β(w̄ − S(w̄)) + Cw̄, C ≥ (k − 2λ√(2πd))/k",
        _LIMIT,
        _printed,
        _eq_12_printed,
    ),
    Claim(
        "F-cor1.1-eq12",
        "F Corollary 1.1",
        "(12) with the penalty's own thresholding",
        _LIMIT,
        _printed,
        _eq_12_other,
        NONCONVEX,
    ),
    Claim("F-eq12-right", "F Theorem 1 (ii), eq. 12, Corollary 1.1", _FIXED, _LIMIT, _right, _eq_12_right, ALL),
    Claim(
        "F-eq13",
        "F Theorem 1 (iii), eq. 13, Corollary 1.1",
        "‖w* − w̄‖ ≤ 4√(2π)β sin γ/k",
        _LIMIT,
        _printed,
        functools.partial(_bound_13, factor=4 * math.sqrt(2 * math.pi)),
        ALL,
    ),
    Claim(
        "F-eq13-right",
        "F Theorem 1 (iii), eq. 13, Corollary 1.1",
        "‖w* − w̄‖ ≤ 4πβ sin γ/k, the bound with c/2 = k/(2π)",
        _LIMIT,
        _right,
        functools.partial(_bound_13, factor=4 * math.pi),
        ALL,
    ),
    Claim(
        "F-eq22",
        "F eq. 22",
        "(k/(2√(2π))) sin θ = β‖ū‖ sin γ",
        _LIMIT,
        _printed,
        functools.partial(_equilibrium, half=PRINTED),
        ALL,
    ),
    Claim("F-eq22-right", "F eq. 22", _FIXED, _LIMIT, _right, functools.partial(_equilibrium, half=RIGHT), ALL),
    Claim(
        "F-remark1-zeros",
        "F Remark 1",
        "w̄ is sparse: where ū has zeros that w* lacks, w̄ has one, too",
        _LIMIT,
        _printed,
        _sparse,
    ),
    Claim(
        "F-remark1-zeros-right",
        "F Remark 1",
        "|w*_i| ≤ (|C| + (2π/k)β)|w̄_i|: w̄ has no zero that w* lacks",
        _LIMIT,
        _right,
        _expanded,
        ALL,
    ),
)
