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
from .claims.shared import AT_REST
from .lanes import DEALT, constrain, draw
from .limits import run_on, run_to_limits
from .margins import Margin
from .states import Limit, State, Three
from .subjects import SUBJECTS, Subject, limit_at, reach


class ClaimMargins(NamedTuple):
    """Margins of a claim on one lane or on several."""

    conditions: dict[str, Margin]
    conclusions: dict[str, Margin]


class Size(NamedTuple):
    """Sizes of a program.

    Attributes:
      tile: lanes per tile.
      tiles: tiles per call and device.
      steps: steps of a path.
      cap: step cap of a run to a limit.
      rounds: further steps of a lane that is not at rest then, and of one that is not at rest after those.
    """

    tile: int = 128
    tiles: int = 16
    steps: int = 100
    cap: int = 4_000
    rounds: tuple[int, ...] = (8_000, 60_000)


class Batch(NamedTuple):
    """Margins of claims on lanes, as NumPy arrays of shape (lanes,), after ``round`` rounds of further steps."""

    lanes: np.ndarray
    margins: dict[str, ClaimMargins]
    round: int


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


def states(name: str, p: Parameters, start: Array, size: Size, further: Array | int = 0) -> State:
    """Returns the states of a tile of lanes; limits are run to convergence, for ``further`` steps beyond the cap."""
    subject = SUBJECTS[name]
    if not subject.is_limit:
        return jax.vmap(lambda p, start: reach(subject, p, start, size.steps))(p, start)
    if subject.form == "three":
        return Three(*(_limits(subject, _with_kind(p, kind), start, size, further) for kind in range(3)))
    return _limits(subject, p, start, size, further)


def _with_kind(p: Parameters, kind: int) -> Parameters:
    assert isinstance(p.penalty, Chosen)  # see ``constrain``
    return p._replace(penalty=Chosen(jnp.full_like(p.penalty.kind, kind), p.penalty.a))


def _limits(subject: Subject, p: Parameters, start: Array, size: Size, further: Array | int) -> Limit:
    # Theorem 2 claims w* itself: a hard-thresholding lane stopped by the cap would count as a violation.
    w = run_to_limits(subject, p, start[:, 0], size.cap * (3 if subject.hard else 1))
    if not subject.hard:
        w = run_on(subject, p, w, further)
    return jax.vmap(functools.partial(limit_at, subject))(p, start[:, 0], w)


Inputs = tuple[Array, Array]
"""Lane numbers, and the number of further steps of each; a tile takes that of its first lane."""


@functools.cache
def program(subject: str, names: tuple[str, ...], key: int, size: Size) -> Callable[[Inputs], dict[str, ClaimMargins]]:
    """Returns a function from lanes to the margins of a subject's claims; cached, so it compiles once."""
    claims = claims_of(subject, names)

    def tile(inputs: Inputs) -> dict[str, ClaimMargins]:
        lanes, further = inputs
        fixed, raw = jax.vmap(functools.partial(draw, subject, jax.random.key(key)))(lanes)
        p, start = jax.vmap(functools.partial(constrain, subject))(fixed, raw)
        return jax.vmap(functools.partial(measure, claims))(p, states(subject, p, start, size, further[0]))

    return tile


def measured(subject: str, names: tuple[str, ...], key: int, lanes: np.ndarray, size: Size) -> Iterator[Batch]:
    """Yields batches of lanes with the margins of a subject's claims on them.

    A lane that only lacks rest to meet the conditions of a claim is run on, with others like it, for up to
    ``len(size.rounds)`` rounds; its margins come once, after its last round. All batches run one program with the same
    shapes, so a lane's margins do not depend on the other lanes.
    """
    count = jax.local_device_count() * size.tiles * size.tile
    for done, further in enumerate((0, *size.rounds)):
        late = []
        for part in np.split(lanes, range(count, len(lanes), count)):
            full = np.resize(part, count).astype(np.uint32), np.full(count, further, np.int32)
            margins = jax.tree.map(lambda x, part=part: x[: len(part)], _run(subject, names, key, size, full))
            restless = unfinished(margins, part) if done < len(size.rounds) else np.zeros(len(part), bool)
            late.append(part[restless])
            yield Batch(part[~restless], jax.tree.map(lambda x, rest=~restless: x[rest], margins), done)
        lanes = np.concatenate(late)
        if not len(lanes):
            return


def _run(
    subject: str, names: tuple[str, ...], key: int, size: Size, full: tuple[np.ndarray, np.ndarray]
) -> dict[str, ClaimMargins]:
    return map_tiles(program(subject, names, key, size), full, size.tile)


def unfinished(margins: dict[str, ClaimMargins], lanes: np.ndarray) -> np.ndarray:
    """Returns the mask of lanes that meet all conditions of some claim but rest."""
    waits = np.zeros(len(lanes), bool)
    for name, (conditions, _) in margins.items():
        met, rest = concerns(CLAIMS[name], lanes), np.ones(len(lanes), bool)
        for condition, margin in conditions.items():
            holds = margin.slack + margin.allowance >= 0
            if condition.endswith(AT_REST):
                rest &= holds
            else:
                met &= holds
        waits |= met & ~rest
    return waits
