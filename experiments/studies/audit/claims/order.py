"""Claims that rank the penalties: limits of the same problem with l1, l0 and tl1, lane by lane and in the mean."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import angle, unit
from rvsmjax.problems import NoOverlapReLU

from ..claim import Claim, Parameters, Run
from ..margins import Margins, at_least, at_most
from ..states import Three
from .shared import AT_REST, converged, no_conditions, position_error

_THREE = "three limits"


def _all_settled(p: Parameters, state: Three) -> Margins:
    return {f"{name} {AT_REST}": converged(p, limit)[AT_REST] for name, limit in state._asdict().items()}


def _loss(run: Run, v: Array) -> Array:
    return NoOverlapReLU(run.parameters.k).loss(v, run.parameters.w_star)


def _ordered(run: Run, values: dict[str, Array], name: str, *order: tuple[str, str]) -> Margins:
    error = sum(position_error(run.parameters, limit) for limit in run.state)
    return {f"{name}: {a} ≤ {b}": at_most(values[a], values[b], 1.0, error=error) for a, b in order}


_RISING = ("l1", "tl1"), ("tl1", "l0")
"""l1 smallest, then tl1, then l0."""
_SMALLEST = ("l1", "tl1"), ("l1", "l0")
_FALLING = ("l0", "tl1"), ("tl1", "l1")


def _losses(run: Run) -> dict[str, Array]:
    return {name: _loss(run, limit.w) for name, limit in run.state._asdict().items()}


def _loss_text(run: Run) -> Margins:
    return _ordered(run, _losses(run), "f(w̄)", *_RISING)


def _loss_introduction(run: Run) -> Margins:
    angles = {name: angle(limit.w, run.parameters.w_star) for name, limit in run.state._asdict().items()}
    return _ordered(run, _losses(run), "f(w̄)", *_FALLING) | _ordered(run, angles, "θ(w̄, w*)", *_FALLING)


def _sparse_partner(run: Run) -> Margins:
    limits = run.state._asdict()
    angles = {name: angle(limit.u, run.parameters.w_star) for name, limit in limits.items()}
    losses = {name: _loss(run, limit.u) for name, limit in limits.items()}
    return _ordered(run, angles, "θ(ū, w*)", *_RISING) | _ordered(run, losses, "f(ū)", *_RISING)


def _counts(run: Run) -> Margins:
    counts = {name: jnp.sum(v.u != 0, dtype=v.u.dtype) for name, v in run.state._asdict().items()}
    return {f"‖ū‖₀: {a} ≤ {b}": at_most(counts[a], counts[b]) for a, b in _FALLING}


def _gammas(run: Run) -> Margins:
    gammas = {name: angle(limit.w, limit.u) for name, limit in run.state._asdict().items()}
    return _ordered(run, gammas, "γ", *_SMALLEST)


_DIMENSIONS = (50, 100, 200, 400, 800)


def _killed(run: Run) -> Margins:
    """Compares the share of vectors that hard thresholding at (2λ/β)^{1/2} sets to 0 with that at half the d."""
    p, s = run
    cut = jnp.sqrt(2 * p.lam / p.beta)
    gone = [(jnp.max(jnp.abs(unit(s.first[:d]))) <= cut).astype(s.first.dtype) for d in _DIMENSIONS]
    pairs = zip(_DIMENSIONS, gone, gone[1:], strict=False)
    return {f"T(X) = 0 at d = {2 * d} against {d}": at_least(more, less) for d, less, more in pairs}


_TABLES = "three limits, Tables 1 to 3"

CLAIMS = (
    Claim(
        "A-5.3-order",
        "A section 5.3",
        "f(w̄) is smallest for l1, then tl1, then l0, at the setting of Tables 1 to 3, in the mean over draws",
        _TABLES,
        _all_settled,
        _loss_text,
        mean=True,
    ),
    Claim(
        "A-sec1-order",
        "A section 1",
        "f(w̄) and θ(w̄, w*) are smallest for l0, then tl1, then l1, at that setting, in the mean over draws",
        _TABLES,
        _all_settled,
        _loss_introduction,
        mean=True,
    ),
    Claim(
        "A-sec1-order-u",
        "A section 1",
        "θ(ū, w*) and f(ū) are smallest for l1, then tl1, then l0, at that setting, in the mean over draws",
        _TABLES,
        _all_settled,
        _sparse_partner,
        mean=True,
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
        "γ = ∠(X, prox(X)) is smallest for l1, for uniform unit vectors X and λ/β = 0.05, in the mean over draws",
        "three thresholdings, Figure 6",
        _all_settled,
        _gammas,
        mean=True,
    ),
    Claim(
        "A-5.3-killed",
        "A section 5.3",
        "l0 is more likely to set all components of a uniform unit vector to 0 as d grows, at λ/β = 0.025",
        "killed",
        no_conditions,
        _killed,
        mean=True,
    ),
)
