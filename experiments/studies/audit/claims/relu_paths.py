"""Claims on the iterates of A Algorithm 1: ReLU, on the sphere."""

from __future__ import annotations

import jax.numpy as jnp

from rvsmjax.geometry import norm

from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_least, at_most
from ..states import Path
from .shared import (
    ALL,
    ON_SPHERE,
    angle_stays,
    bisects,
    bisects_right,
    half_move,
    lagrangian_descends,
    lagrangian_terms,
    no_conditions,
    rate,
    small_splitting,
    start_angle,
)

_PATH = "A path"


def _theorem(p: Parameters, path: Path) -> Margins:
    """Returns the conditions of A Theorem 1."""
    return _small_rate(p, path) | start_angle(p, path.theta[0]) | small_splitting(p)


def _small_rate(p: Parameters, path: Path) -> Margins:
    """Returns A Theorem 1 (i)."""
    return rate(p, ON_SPHERE) | half_move(path)


def _without_move(p: Parameters, path: Path) -> Margins:
    return rate(p, ON_SPHERE) | small_splitting(p)


def _loose_rate(p: Parameters, path: Path) -> Margins:
    return {"η": at_most(p.learning_rate, 2 / p.beta)}


def _descent_in_u(run: Run) -> Margins:
    path = run.state
    return {"L": at_most(path.low[1:], path.high, *lagrangian_terms(run))}


def _descent_in_w(run: Run) -> Margins:
    path = run.state
    return lagrangian_descends(run) | {"L in w alone": at_most(path.high, path.low[:-1], *lagrangian_terms(run))}


def _normalisation(run: Run) -> Margins:
    c = 1 / run.state.length
    return {"C ≥ 2/3": at_least(c, 2 / 3), "C ≤ 2": at_most(c, 2.0)}


def _inner_product(run: Run) -> Margins:
    w, length = run.state.w, run.state.length
    change = w[1:] - w[:-1]
    inner = jnp.sum((length[:, None] * w[1:] - w[:-1]) * change, -1)
    bound = jnp.minimum(length, 1) * jnp.square(norm(change))
    # The iterates have norm 1 only up to rounding, hence the term 1.
    return {"⟨·,·⟩": at_least(inner, bound, 1.0)}


def _thresholded_angle(run: Run) -> Margins:
    w, u = run.state.w, run.state.u
    return {"⟨u, w⟩ ≥ 0": at_least(jnp.sum(w * u, -1), 0.0)}


CLAIMS = (
    Claim(
        "A-5.1.4",
        "A Lemma 5.1.4, Corollary 1.1",
        "L(u^{t+1}, w^t) ≤ L(u^t, w^t)",
        _PATH,
        no_conditions,
        _descent_in_u,
        ALL,
    ),
    Claim(
        "A-5.1.5",
        "A Lemma 5.1.5",
        "η ≤ 2/β gives L(u^{t+1}, w^{t+1}) ≤ L(u^t, w^t)",
        "A path at a loose rate",
        _loose_rate,
        _descent_in_w,
        ALL,
    ),
    Claim(
        "A-5.1.5-right",
        "A proof of Lemma 5.1.5, Corollary 1.1",
        "η ≤ 1/(β + 4) and moves ≤ 1/2 give L(u^{t+1}, w^{t+1}) ≤ L(u^t, w^t)",
        _PATH,
        _small_rate,
        _descent_in_w,
        ALL,
    ),
    Claim(
        "A-5.1.5-C", "A proof of Lemma 5.1.5", "moves ≤ 1/2 give 2/3 ≤ C^t ≤ 2", _PATH, _small_rate, _normalisation, ALL
    ),
    Claim(
        "A-5.1.5-inner",
        "A proof of Lemma 5.1.5",
        "⟨w^{t+1}/C^t − w^t, w^{t+1} − w^t⟩ ≥ min(1, 1/C^t)‖w^{t+1} − w^t‖²",
        _PATH,
        _small_rate,
        _inner_product,
        ALL,
    ),
    Claim(
        "A-4.2-move",
        "A after Remark 4.2",
        "the bound 1/2 on the moves is achievable: it follows from η ≤ 1/(β + 4) and (iii)",
        _PATH,
        _without_move,
        lambda run: half_move(run.state),
        ALL,
    ),
    Claim(
        "A-cor1.1-acute",
        "A proofs of Theorem 1 and Corollary 1.1",
        "θ(u^{t+1}, w^t) ≤ π/2",
        _PATH,
        no_conditions,
        _thresholded_angle,
        ALL,
    ),
    Claim(
        "A-thm1-stays",
        "A proofs of Theorem 1 and Corollary 1.1",
        "θ(w⁰, w*) ≤ π − δ gives θ(w^t, w*) ≤ π − δ for all t",
        _PATH,
        _theorem,
        angle_stays,
        ALL,
    ),
    Claim(
        "A-5.1.5-wide",
        "A proof of Lemma 5.1.5, Corollary 1.1",
        "η ≤ 1/(β + 4) and moves ≤ 1/2 give L(u^{t+1}, w^{t+1}) ≤ L(u^t, w^t), for every β, here up to 50, and every λ",
        "A path, any β",
        _small_rate,
        _descent_in_w,
        ALL,
    ),
    Claim(
        "A-5.1.5-bisects",
        "A proof of Lemma 5.1.5",
        "w^{t+1} − w^t makes angles below π/2 with w^t and with w^{t+1}",
        _PATH,
        _small_rate,
        bisects,
        ALL,
    ),
    Claim(
        "A-5.1.5-bisects-right",
        "A proof of Lemma 5.1.5",
        "w^{t+1} − w^t makes angles of at most π/2 with −w^t and with w^{t+1}",
        _PATH,
        _small_rate,
        bisects_right,
        ALL,
    ),
)
