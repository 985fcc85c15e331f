"""Claims that rank the penalties: limits of the same problem with l1, l0 and tl1, lane by lane."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import angle
from rvsmjax.problems import NoOverlapReLU

from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_most
from ..states import Three
from .shared import converged, position_error

_THREE = "three limits"


def _all_settled(p: Parameters, state: Three) -> Margins:
    return {f"{name} at rest": converged(p, limit)["at rest"] for name, limit in state._asdict().items()}


def _loss(run: Run, v: Array) -> Array:
    return NoOverlapReLU(run.parameters.k).loss(v, run.parameters.w_star)


def _ordered(run: Run, small: str, middle: str, large: str, values: dict[str, Array], name: str) -> Margins:
    error = sum(position_error(run.parameters, limit) for limit in run.state)
    return {
        f"{name}: {a} ≤ {b}": at_most(values[a], values[b], 1.0, error=error)
        for a, b in ((small, middle), (middle, large))
    }


def _losses(run: Run) -> dict[str, Array]:
    return {name: _loss(run, limit.w) for name, limit in run.state._asdict().items()}


def _loss_text(run: Run) -> Margins:
    return _ordered(run, "l1", "tl1", "l0", _losses(run), "f(w̄)")


def _loss_introduction(run: Run) -> Margins:
    angles = {name: angle(limit.w, run.parameters.w_star) for name, limit in run.state._asdict().items()}
    return _ordered(run, "l0", "tl1", "l1", _losses(run), "f(w̄)") | _ordered(run, "l0", "tl1", "l1", angles, "θ(w̄, w*)")


def _sparse_partner(run: Run) -> Margins:
    limits = run.state._asdict()
    angles = {name: angle(limit.u, run.parameters.w_star) for name, limit in limits.items()}
    losses = {name: _loss(run, limit.u) for name, limit in limits.items()}
    return _ordered(run, "l1", "tl1", "l0", angles, "θ(ū, w*)") | _ordered(run, "l1", "tl1", "l0", losses, "f(ū)")


def _counts(run: Run) -> Margins:
    counts = {name: jnp.sum(v.u != 0, dtype=v.u.dtype) for name, v in run.state._asdict().items()}
    return {f"‖ū‖₀: {a} ≤ {b}": at_most(counts[a], counts[b]) for a, b in (("l0", "tl1"), ("tl1", "l1"))}


def _gammas(run: Run) -> Margins:
    gammas = {name: angle(limit.w, limit.u) for name, limit in run.state._asdict().items()}
    return _ordered(run, "l1", "tl1", "l0", gammas, "γ")


CLAIMS = (
    Claim(
        "A-5.3-order",
        "A section 5.3",
        "f(w̄) is smallest for l1, then tl1, then l0, in each lane",
        _THREE,
        _all_settled,
        _loss_text,
    ),
    Claim(
        "A-sec1-order",
        "A section 1",
        "f(w̄) and θ(w̄, w*) are smallest for l0, then tl1, then l1, in each lane",
        _THREE,
        _all_settled,
        _loss_introduction,
    ),
    Claim(
        "A-sec1-order-u",
        "A section 1",
        "θ(ū, w*) and f(ū) are smallest for l1, then tl1, then l0, in each lane",
        _THREE,
        _all_settled,
        _sparse_partner,
    ),
    Claim(
        "A-sec1-order-zeros",
        "A section 1, I section 6",
        "ū is most sparse for l0, then tl1, then l1, in each lane",
        _THREE,
        _all_settled,
        _counts,
    ),
    Claim(
        "A-5.3-gamma",
        "A section 5.3, Figure 6",
        "γ = ∠(X, prox(X)) is smallest for l1, then tl1, then l0, for every unit vector X",
        "three thresholdings",
        _all_settled,
        _gammas,
    ),
)
