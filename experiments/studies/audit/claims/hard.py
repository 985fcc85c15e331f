"""Claims on adaptive hard thresholding and on gradient descent, for ReLU."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import norm, quotient

from ....one_layer.hard import keep_largest
from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_least, at_most, equal
from ..states import Limit, Path

_PATH, _LIMIT = "A2 path", "A2 limit"
_AWAY = 1e-2
"""Distance of starts from the excluded ones, near which the number of steps is unbounded."""


def _rate(p: Parameters) -> Margins:
    return {"η < 1": at_most(p.learning_rate, 1.0)}


def _inside(p: Parameters, path: Path) -> Margins:
    theta = path.theta[0]
    return _rate(p) | {"0 < θ⁰ < π": at_least(jnp.sin(theta), 1e-6)}


def _uncut(run: Run, margins: Array) -> Array:
    """Returns the margins of steps without thresholding; 1 for the others."""
    return jnp.where(run.state.cut, 1.0, margins)


def _angle(run: Run) -> Margins:
    theta = run.state.theta
    return {"θ": at_least(_uncut(run, theta[:-1] - theta[1:]), 0.0, math.pi)}


def _norm(run: Run) -> Margins:
    lengths = norm(run.state.w)
    return {"‖w‖": at_least(_uncut(run, lengths[1:] - lengths[:-1]), 0.0, jnp.max(lengths))}


def _norm_right(run: Run) -> Margins:
    p, path = run
    lengths = norm(path.w)
    short = lengths[:-1] <= (p.k - 1) / (p.k - 1 + math.pi) * norm(p.w_star)
    gain = jnp.where(short, lengths[1:] - lengths[:-1], 1.0)
    return {"‖w‖": at_least(_uncut(run, gain), 0.0, jnp.max(lengths))}


def _shrinking(run: Run) -> Margins:
    p, path = run
    w, theta = path.w[:-1], path.theta[:-1]
    ratio, cross = quotient(norm(p.w_star), norm(w)), (p.k**2 - p.k) / math.pi
    bracket = p.k + cross - p.k / math.pi * ratio * jnp.sin(theta) - cross * ratio
    c = 1 - p.learning_rate / p.k**2 * bracket
    return {"c > 0": at_least(c, 0.0), "c < 1": at_most(c, 1.0)}


def _sparse_start(p: Parameters, path: Path) -> Margins:
    start = jnp.sum(path.w[0] != 0, dtype=path.w.dtype)
    return _inside(p, path) | {"w⁰ s-sparse": at_most(start, jnp.asarray(p.s, start.dtype))}


def _supports(run: Run) -> tuple[Array, Array]:
    """Returns masks of Γ^t − Γ^{t+1} and of Γ^{t+1} − Γ^t where thresholding acted, each of shape (T, d)."""
    kept = jax.vmap(lambda w: keep_largest(w, run.parameters.s) != 0)(run.state.w)
    cut = run.state.cut[:, None]
    return cut & kept[:-1] & ~kept[1:], cut & kept[1:] & ~kept[:-1]


def _swaps(run: Run) -> Margins:
    dropped, _ = _supports(run)
    on = jnp.sum(dropped & (run.parameters.w_star != 0), -1, dtype=run.state.w.dtype)
    return {"drops entries off Γ* alone": at_most(on, 0.0)}


def _gains(run: Run) -> Margins:
    _, gained = _supports(run)
    off = jnp.sum(gained & (run.parameters.w_star == 0), -1, dtype=run.state.w.dtype)
    return {"gains entries of Γ* alone": at_most(off, 0.0)}


def _twice_sparse(run: Run) -> Margins:
    p, path = run
    counts = jnp.sum(path.w != 0, -1, dtype=path.w.dtype)
    return {"‖w^t‖₀ ≤ 2s": at_most(counts, 2 * jnp.asarray(p.s, path.w.dtype))}


def _theorem(p: Parameters, limit: Limit) -> Margins:
    on = jnp.where(p.w_star != 0, limit.start, 0)
    size = norm(on)
    cosine = quotient(jnp.sum(on * p.w_star), size * norm(p.w_star))
    return _rate(p) | {"w⁰ ≠ 0 on Γ*": at_least(size, _AWAY), "θ(w⁰ on Γ*, w*) ≠ π": at_least(cosine, -1 + _AWAY)}


def _recovered(run: Run) -> Margins:
    p, limit = run
    wrong = jnp.sum((limit.u != 0) != (p.w_star != 0), dtype=limit.w.dtype)
    return {
        "w^t → w*": equal(norm(limit.w - p.w_star), 0.0, 1.0, error=1e-6),
        "support": equal(wrong, 0.0),
    }


CLAIMS = (
    Claim(
        "A-5.4.1-angle",
        "A Lemma 5.4.1",
        "η < 1, 0 < θ^t < π and no thresholding give θ^{t+1} < θ^t",
        _PATH,
        _inside,
        _angle,
    ),
    Claim("A-5.4.1-norm", "A Lemma 5.4.1", "no thresholding gives ‖w^{t+1}‖ ≥ ‖w^t‖", _PATH, _inside, _norm),
    Claim(
        "A-5.4.1-norm-right",
        "A Lemma 5.4.1",
        "the same while ‖w^t‖ ≤ (k − 1)/(k − 1 + π)·‖w*‖, the norm of the saddle",
        _PATH,
        _inside,
        _norm_right,
    ),
    Claim(
        "A-thm2-shrinks",
        "A proof of Theorem 2",
        "entries off Γ* are multiplied by c_1(t) in (0, 1)",
        _PATH,
        _inside,
        _shrinking,
    ),
    Claim(
        "A-thm2-swap",
        "A proof of Theorem 2",
        "a step with thresholding replaces an entry off Γ* by one of Γ*",
        _PATH,
        _sparse_start,
        _swaps,
    ),
    Claim(
        "A-thm2-swap-right",
        "A proof of Theorem 2",
        "a step with thresholding adds entries of Γ* alone to Γ^t",
        _PATH,
        _sparse_start,
        _gains,
    ),
    Claim("A-thm2-2s", "A proof of Theorem 2", "w^t is at most 2s-sparse", _PATH, _sparse_start, _twice_sparse),
    Claim(
        "A-thm2",
        "A Theorem 2, Lemma 5.4.3",
        "w⁰ ≠ 0 on Γ* and θ(w⁰ on Γ*, w*) ≠ π give w^t → w*",
        _LIMIT,
        _theorem,
        _recovered,
    ),
)
