"""Every claim on every lane: tiles of lanes drawn, run and measured in one compiled program a subject."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from ...records.lanes import map_tiles
from .chosen import KINDS, Chosen
from .claim import Claim, Parameters, Run
from .claims import CLAIMS
from .lanes import DEALT, draw, place
from .limits import settle
from .margins import Margin
from .states import Limit, State, Three
from .subjects import SUBJECTS, Subject, limit_at, reach


class Seen(NamedTuple):
    """A claim's margins over lanes, or on one.

    Attributes:
      conditions: the margins of its conditions.
      conclusions: those of its conclusions.
    """

    conditions: dict[str, Margin]
    conclusions: dict[str, Margin]


class Size(NamedTuple):
    """How much is run: lanes in a tile, tiles a call and device, steps of a path, and the cap on those to a limit."""

    tile: int = 128
    tiles: int = 16
    steps: int = 100
    cap: int = 4_000


def claims_of(subject: str, names: tuple[str, ...]) -> list[Claim]:
    """Returns the claims about a subject among those named."""
    return [CLAIMS[name] for name in names if CLAIMS[name].subject == subject]


def penalty_of(lane: ArrayLike) -> np.ndarray:
    """Returns the number of a lane's penalty in ``KINDS``."""
    return DEALT[np.asarray(lane) % 4]


def concerns(claim: Claim, lanes: np.ndarray) -> np.ndarray:
    """Returns which lanes have a penalty that the claim is about; all where it does not depend on the lane's."""
    if not SUBJECTS[claim.subject].split:
        return np.ones(len(lanes), bool)
    return np.isin(np.asarray(KINDS)[penalty_of(lanes)], claim.penalties)


def measure(claims: list[Claim], p: Parameters, state: State) -> dict[str, Seen]:
    """Returns every claim's margins on one lane."""
    return {c.name: Seen(c.conditions(p, state), c.conclusions(Run(p, state))) for c in claims}


def states(name: str, p: Parameters, start: Array, size: Size) -> State:
    """Returns the states of a tile of lanes, limits by running to convergence."""
    subject = SUBJECTS[name]
    if not subject.rests:
        return jax.vmap(lambda p, start: reach(subject, p, start, size.steps))(p, start)
    if subject.form == "three":
        return Three(*(_limits(subject, _with_kind(p, kind), start, size) for kind in range(3)))
    return _limits(subject, p, start, size)


def _with_kind(p: Parameters, kind: int) -> Parameters:
    assert isinstance(p.penalty, Chosen)  # by ``place``
    return p._replace(penalty=Chosen(jnp.full_like(p.penalty.kind, kind), p.penalty.a))


def _limits(subject: Subject, p: Parameters, start: Array, size: Size) -> Limit:
    # Hard thresholding promises w* itself: a lane that the cap stopped would count as one that went elsewhere.
    w = settle(subject, p, start[:, 0], size.cap * (3 if subject.hard else 1))
    return jax.vmap(functools.partial(limit_at, subject))(p, start[:, 0], w)


@functools.cache
def program(subject: str, names: tuple[str, ...], key: int, size: Size) -> Callable[[Array], dict[str, Seen]]:
    """Returns the function of a tile of lane numbers that measures a subject's claims; the same for equal arguments."""
    claims = claims_of(subject, names)

    def tile(lanes: Array) -> dict[str, Seen]:
        fixed, raw = jax.vmap(functools.partial(draw, subject, jax.random.key(key)))(lanes)
        p, start = jax.vmap(functools.partial(place, subject))(fixed, raw)
        return jax.vmap(functools.partial(measure, claims))(p, states(subject, p, start, size))

    return tile


def measured(
    subject: str, names: tuple[str, ...], key: int, lanes: np.ndarray, size: Size
) -> Iterator[tuple[np.ndarray, dict[str, Seen]]]:
    """Yields lanes, and the margins of a subject's claims on them as NumPy arrays of shape (lanes,), part by part.

    All parts are calls of one program with the same shapes: a lane's margins are the same whatever else is asked for.
    """
    count = jax.local_device_count() * size.tiles * size.tile
    for part in np.split(lanes, range(count, len(lanes), count)):
        full = np.resize(part, count).astype(np.uint32)
        seen = map_tiles(program(subject, names, key, size), full, size.tile)
        yield part, jax.tree.map(lambda x, part=part: x[: len(part)], seen)
