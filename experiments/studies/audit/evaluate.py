"""Margins of claims on lanes: one compiled program per subject draws, runs and measures tiles of lanes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...records.lanes import map_tiles
from .chosen import KINDS, Chosen
from .claim import Claim, Parameters, Run
from .claims import CLAIMS
from .lanes import DEALT, constrain, draw
from .limits import run_to_limits
from .margins import Margin
from .states import Limit, State, Three
from .subjects import SUBJECTS, Subject, limit_at, reach


class ClaimMargins(NamedTuple):
    """Margins of a claim on one lane or on several."""

    conditions: dict[str, Margin]
    conclusions: dict[str, Margin]


class Size(NamedTuple):
    """Lanes per tile, tiles per call and device, steps of a path, step cap of a run to a limit."""

    tile: int = 128
    tiles: int = 16
    steps: int = 100
    cap: int = 4_000


def claims_of(subject: str, names: tuple[str, ...]) -> list[Claim]:
    """Returns the named claims on a subject."""
    return [CLAIMS[name] for name in names if CLAIMS[name].subject == subject]


def concerns(claim: Claim, lanes: np.ndarray) -> np.ndarray:
    """Returns the mask of lanes whose penalty the claim covers; all lanes if the subject ignores the penalty."""
    if not SUBJECTS[claim.subject].uses_penalty:
        return np.ones(len(lanes), bool)
    return np.isin(np.asarray(KINDS)[DEALT[lanes % 4]], claim.penalties)


def measure(claims: list[Claim], p: Parameters, state: State) -> dict[str, ClaimMargins]:
    """Returns the margins of each claim on one lane."""
    return {c.name: ClaimMargins(c.conditions(p, state), c.conclusions(Run(p, state))) for c in claims}


def states(name: str, p: Parameters, start: Array, size: Size) -> State:
    """Returns the states of a tile of lanes; limits are run to convergence."""
    subject = SUBJECTS[name]
    if not subject.is_limit:
        return jax.vmap(lambda p, start: reach(subject, p, start, size.steps))(p, start)
    if subject.form == "three":
        return Three(*(_limits(subject, _with_kind(p, kind), start, size) for kind in range(3)))
    return _limits(subject, p, start, size)


def _with_kind(p: Parameters, kind: int) -> Parameters:
    assert isinstance(p.penalty, Chosen)  # see ``constrain``
    return p._replace(penalty=Chosen(jnp.full_like(p.penalty.kind, kind), p.penalty.a))


def _limits(subject: Subject, p: Parameters, start: Array, size: Size) -> Limit:
    # Theorem 2 claims w* itself: a hard-thresholding lane stopped by the cap would count as a violation.
    w = run_to_limits(subject, p, start[:, 0], size.cap * (3 if subject.hard else 1))
    return jax.vmap(functools.partial(limit_at, subject))(p, start[:, 0], w)


@functools.cache
def program(subject: str, names: tuple[str, ...], key: int, size: Size) -> Callable[[Array], dict[str, ClaimMargins]]:
    """Returns a function from lane numbers to the margins of a subject's claims; cached, so it compiles once."""
    claims = claims_of(subject, names)

    def tile(lanes: Array) -> dict[str, ClaimMargins]:
        fixed, raw = jax.vmap(functools.partial(draw, subject, jax.random.key(key)))(lanes)
        p, start = jax.vmap(functools.partial(constrain, subject))(fixed, raw)
        return jax.vmap(functools.partial(measure, claims))(p, states(subject, p, start, size))

    return tile


def measured(
    subject: str, names: tuple[str, ...], key: int, lanes: np.ndarray, size: Size
) -> Iterator[tuple[np.ndarray, dict[str, ClaimMargins]]]:
    """Yields batches of lanes with the margins of a subject's claims on them, as NumPy arrays of shape (lanes,).

    All batches run one program with the same shapes, so a lane's margins do not depend on the other lanes.
    """
    count = jax.local_device_count() * size.tiles * size.tile
    for part in np.split(lanes, range(count, len(lanes), count)):
        full = np.resize(part, count).astype(np.uint32)
        margins = map_tiles(program(subject, names, key, size), full, size.tile)
        yield part, jax.tree.map(lambda x, part=part: x[: len(part)], margins)
