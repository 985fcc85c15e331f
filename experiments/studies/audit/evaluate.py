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
from .lanes import DEALT, SIZES, constrain, draw
from .limits import Leg, legs, run_leg
from .margins import Margin
from .states import State, Three
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
      cap: step cap of a run to a limit, three times as many with hard thresholding.
      rounds: further steps of a lane that is not at rest then, and of one that is not at rest after those.
    """

    tile: int = 128
    tiles: int = 16
    steps: int = 100
    cap: int = 4_000
    rounds: tuple[int, ...] = (8_000, 52_000)


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


def states(name: str, p: Parameters, start: Array, size: Size) -> State:
    """Returns the states of a tile of lanes; limits after the step cap and the first round of further steps."""
    subject = SUBJECTS[name]
    w = _starts(subject, start)
    if subject.is_limit:
        rounds = jnp.asarray([_cap(subject, size), 0 if subject.hard else size.rounds[0]], jnp.int32)
        runs = (rounds, jnp.asarray([False, True]))
        w = jax.lax.scan(lambda w, leg: (_advance(subject, p, w, *leg)[0], None), w, runs)[0]
    return _states(subject, p, start, w, size)


def _cap(subject: Subject, size: Size) -> int:
    # Theorem 2 claims w* itself: a hard-thresholding lane stopped by the cap would count as a violation.
    return size.cap * (3 if subject.hard else 1)


def _runs(subject: Subject) -> int:
    """Returns the number of runs to limits on a lane."""
    return (3 if subject.form == "three" else 1) if subject.is_limit else 0


def _starts(subject: Subject, start: Array) -> Array:
    """Returns w⁰ of the runs to limits, of shape (lanes, runs, d)."""
    return jnp.repeat(start[:, :1], _runs(subject), 1)


def _with_kind(p: Parameters, kind: int) -> Parameters:
    assert isinstance(p.penalty, Chosen)  # see ``constrain``
    return p._replace(penalty=Chosen(jnp.full_like(p.penalty.kind, kind), p.penalty.a))


def _of_runs(subject: Subject, p: Parameters) -> list[Parameters]:
    return [_with_kind(p, kind) for kind in range(3)] if subject.form == "three" else [p] * _runs(subject)


def _advance(subject: Subject, p: Parameters, w: Array, steps: Array, largest: Array) -> tuple[Array, Array]:
    """Returns w, of shape (lanes, runs, d), after a leg, and the mask of lanes with all their runs at rest."""
    ends = [run_leg(subject, one, w[:, i], steps, largest) for i, one in enumerate(_of_runs(subject, p))]
    return jnp.stack([end for end, _ in ends], 1), jnp.all(jnp.stack([rests for _, rests in ends]), 0)


def _states(subject: Subject, p: Parameters, start: Array, w: Array, size: Size) -> State:
    """Returns the states of a tile of lanes whose runs to limits have come to w."""
    if not subject.is_limit:
        return jax.vmap(lambda p, start: reach(subject, p, start, size.steps))(p, start)
    at = jax.vmap(functools.partial(limit_at, subject))
    limits = [at(one, start[:, 0], w[:, i]) for i, one in enumerate(_of_runs(subject, p))]
    return Three(*limits) if subject.form == "three" else limits[0]


class Inputs(NamedTuple):
    """Lanes of a tile, and their next leg; every array has a leading lane axis.

    Attributes:
      lane: lane number.
      w: iterates, of shape (lanes, runs, d); NaN before the first leg.
      steps: steps of the leg; a tile takes those of its first lane.
      largest: whether it is at the largest η; as for ``steps``.
    """

    lane: np.ndarray | Array
    w: np.ndarray | Array
    steps: np.ndarray | Array
    largest: np.ndarray | Array


class Reached(NamedTuple):
    """Margins of a tile's lanes after a leg, the iterates, and the mask of lanes at rest."""

    margins: dict[str, ClaimMargins]
    w: np.ndarray | Array
    rests: np.ndarray | Array


@functools.cache
def program(subject: str, names: tuple[str, ...], key: int, size: Size) -> Callable[[Inputs], Reached]:
    """Returns a function from lanes to the margins of a subject's claims; cached, so it compiles once."""
    kind, claims = SUBJECTS[subject], claims_of(subject, names)

    def tile(inputs: Inputs) -> Reached:
        fixed, raw = jax.vmap(functools.partial(draw, subject, jax.random.key(key)))(jnp.asarray(inputs.lane))
        p, start = jax.vmap(functools.partial(constrain, subject))(fixed, raw)
        w, rests = jnp.asarray(inputs.w), jnp.ones(len(inputs.lane), bool)
        if kind.is_limit:
            w = jnp.where(jnp.isnan(w), _starts(kind, start), w)
            w, rests = _advance(kind, p, w, jnp.asarray(inputs.steps[0]), jnp.asarray(inputs.largest[0]))
        state = _states(kind, p, start, w, size)
        return Reached(jax.vmap(functools.partial(measure, claims))(p, state), w, rests)

    return tile


def measured(subject: str, names: tuple[str, ...], key: int, lanes: np.ndarray, size: Size) -> Iterator[Batch]:
    """Yields batches of lanes with the margins of a subject's claims on them.

    A run to a limit goes leg by leg, so that lanes at rest do not wait for others. A lane that only lacks rest to meet
    the conditions of a claim at the step cap takes further steps, for up to ``len(size.rounds)`` rounds; its margins
    come once, after its last leg. All batches run one program with the same shapes, so a lane's margins do not depend
    on the other lanes.
    """
    kind = SUBJECTS[subject]
    rounds = (_cap(kind, size), *(() if kind.hard else size.rounds)) if kind.is_limit else ()
    parts = legs(rounds) or [Leg(0, 0, True)]
    count = _lanes_of_a_call(size)
    w = np.full((len(lanes), _runs(kind), max(kind.dimensions or SIZES)), np.nan)
    for number, leg in enumerate(parts):
        late: list[tuple[np.ndarray, np.ndarray]] = []
        for first in range(0, len(lanes), count):
            part = lanes[first : first + count]
            margins, new, rests = _run(subject, names, key, size, part, w[first : first + count], leg)
            if number == len(parts) - 1:
                waits = np.zeros(len(part), bool)
            else:
                waits = unfinished(margins, part) if leg.last else ~np.asarray(rests)
            late.append((part[waits], np.asarray(new)[waits]))
            yield Batch(part[~waits], jax.tree.map(lambda x, ends=~waits: x[ends], margins), leg.round)
        lanes, w = (np.concatenate(arrays) for arrays in zip(*late, strict=True))
        if not len(lanes):
            return


def _lanes_of_a_call(size: Size) -> int:
    return jax.local_device_count() * size.tiles * size.tile


def _run(
    subject: str, names: tuple[str, ...], key: int, size: Size, lanes: np.ndarray, w: np.ndarray, leg: Leg
) -> Reached:
    """Runs a leg of at most as many lanes as a call takes; tiles without lanes repeat some and take no step."""
    slots = np.arange(_lanes_of_a_call(size))
    steps = np.where(slots < -(-len(lanes) // size.tile) * size.tile, leg.steps, 0).astype(np.int32)
    index = slots % len(lanes)
    inputs = Inputs(lanes[index].astype(np.uint32), w[index], steps, np.full(len(slots), leg.round > 0))
    return jax.tree.map(lambda x: x[: len(lanes)], map_tiles(program(subject, names, key, size), inputs, size.tile))


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
