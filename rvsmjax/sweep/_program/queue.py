"""A block's lanes through one tile: new lanes take the places of those that have ended.

Slow lanes come first, so that few are left alone at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rvsmjax.solve import Status
from rvsmjax.sweep._program import progress
from rvsmjax.sweep._program.draws import Lanes, divided
from rvsmjax.sweep._program.plan import Block
from rvsmjax.sweep._program.runners import Runners
from rvsmjax.sweep._tiles.loop import NO_LIMIT, running

IDLE = 32
"""Steps of a whole tile that may be spent on lanes that have ended before others take their place."""
STATUSES = 4


class State(NamedTuple):
    """Where the lanes of a block on this device have come to.

    Attributes:
      w: of the lanes that have ended, at their places, of shape (places, rows).
      ends: ``STATUSES`` times their steps, and their statuses.
      executed: steps of all blocks of lanes that stop together, by kind.
      kind: the kind that runs.
      head: the next of its lanes.
      place: of each lane in the tile; past the last where there is none.
      tile: w of the tile, of shape (rows, lanes); on the sphere not scaled to it.
      steps: of each lane in the tile.
      status: of each lane in the tile.
    """

    w: Array
    ends: Array
    executed: Array
    kind: Array
    head: Array
    place: Array
    tile: Array
    steps: Array
    status: Array


def run(
    block: Block, runners: Runners, lanes: Callable[[Array, Array], Lanes], rounds: Array, max_steps: Array
) -> tuple[Array, Array, Array, Array]:
    """Runs this device's lanes to their limits.

    Args:
      block: the block.
      runners: what runs its kinds.
      lanes: function of (kind, places), see ``draws.lanes_at``.
      rounds: tiles of each kind.
      max_steps: step cap.

    Returns:
      w of shape (tiles · lanes of a tile, rows), on the sphere; steps and status of shape (tiles, lanes of a tile);
      steps of all that stops together, by kind.
    """
    plan, size = block.plan, block.plan.tile
    starts, rows = block.starts, block.kinds[0].rows
    places = starts[-1] * size

    def one(state: State) -> State:
        free = ~running(state.steps, state.status, max_steps)
        total = rounds[state.kind] * size
        new = state.head + jnp.cumsum(free, dtype=jnp.int32) - 1
        fresh = free & (new < total)
        place = jnp.where(free, jnp.where(fresh, new, places), state.place)
        head = jnp.minimum(state.head + jnp.sum(free, dtype=jnp.int32), total)
        budget = jnp.where(head < total, IDLE * size, NO_LIMIT).astype(jnp.int32)
        own = lanes(state.kind, place)
        w, limits, steps, status, executed = runners(
            state.kind, own, fresh, state.tile, state.steps, state.status, budget
        )
        ended = ~running(steps, status, max_steps) & (place < places)
        # Else nowhere, each at a place of its own: a TPU sorts places that may be equal.
        nowhere = places + jnp.arange(size, dtype=jnp.int32)
        there = jnp.where(ended, jnp.asarray(starts)[state.kind] * size + place, nowhere)
        if plan.progress:
            jax.debug.callback(progress.report, jnp.sum(ended & own.live))
        through = (head >= total) & ~jnp.any(running(steps, status, max_steps))
        return State(
            w=state.w.at[there].set(limits.T, mode="drop", unique_indices=True),
            ends=state.ends.at[there].set(steps * STATUSES + status, mode="drop", unique_indices=True),
            executed=state.executed.at[state.kind].add(executed),
            kind=state.kind + through,
            head=jnp.where(through, 0, head),
            place=place,
            tile=w,
            steps=steps,
            status=status,
        )

    none = jnp.zeros((), jnp.int32)
    state = State(
        w=jnp.zeros((places, rows), plan.dtype),
        ends=jnp.zeros(places, jnp.int32),
        executed=jnp.zeros(len(block.kinds), jnp.int32),
        kind=none,
        head=none,
        place=jnp.full(size, places, jnp.int32),
        tile=jnp.zeros((rows, size), plan.dtype),
        steps=jnp.zeros(size, jnp.int32),
        status=jnp.full(size, Status.CONVERGED, jnp.int8),
    )
    state = jax.lax.while_loop(lambda state: state.kind < len(block.kinds), one, state)
    steps, status = divided(state.ends.reshape(-1, size), STATUSES)
    return state.w, steps, status, state.executed
