"""Queue of a block's lanes through one tile: new lanes refill the slots of finished ones.

The slowest lanes start first, so few are still running at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rvsmjax.solve import Status
from rvsmjax.sweep._program import progress
from rvsmjax.sweep._program.draws import Lanes, div_rem
from rvsmjax.sweep._program.plan import Block
from rvsmjax.sweep._program.runners import Runners
from rvsmjax.sweep._tiles.loop import NO_LIMIT, running

IDLE_STEPS = 32
"""Steps of a full tile that may be spent on finished lanes before their slots are refilled."""
STATUSES = 4


class State(NamedTuple):
    """State of a block's queue on this device; a slot is a column of the tile.

    Attributes:
      limits: w of the finished lanes by queue index, of shape (lanes, rows).
      ends: ``STATUSES`` · steps + status of the finished lanes, by queue index.
      executed: steps run by each kind, summed over the groups of lanes that stop together.
      kind: the running kind.
      head: queue index of its next lane.
      lane: queue index of the lane in each slot; past the last if the slot is empty.
      w: w of the tile, of shape (rows, lanes); not yet scaled to the sphere.
      steps: steps of each slot.
      status: status of each slot.
    """

    limits: Array
    ends: Array
    executed: Array
    kind: Array
    head: Array
    lane: Array
    w: Array
    steps: Array
    status: Array


def run(
    block: Block, runners: Runners, lanes: Callable[[Array, Array], Lanes], tile_counts: Array, max_steps: Array
) -> tuple[Array, Array, Array, Array]:
    """Runs this device's lanes to their limits.

    Args:
      block: the block.
      runners: runners of its kinds.
      lanes: function of (kind, index), see ``draws.lanes_at``.
      tile_counts: tiles of each kind.
      max_steps: step cap.

    Returns:
      w of shape (tiles · tile size, rows), on the sphere; steps and status of shape (tiles, tile size); ``executed`` of
      ``State``.
    """
    plan, size = block.plan, block.plan.tile
    offsets, rows = block.tile_offsets, block.kinds[0].rows
    end = offsets[-1] * size

    def refill_and_run(state: State) -> State:
        free = ~running(state.steps, state.status, max_steps)
        total = tile_counts[state.kind] * size
        candidate = state.head + jnp.cumsum(free, dtype=jnp.int32) - 1
        fresh = free & (candidate < total)
        index = jnp.where(free, jnp.where(fresh, candidate, end), state.lane)
        head = jnp.minimum(state.head + jnp.sum(free, dtype=jnp.int32), total)
        budget = jnp.where(head < total, IDLE_STEPS * size, NO_LIMIT).astype(jnp.int32)
        tile_lanes = lanes(state.kind, index)
        w, limits, steps, status, executed = runners(
            state.kind, tile_lanes, fresh, state.w, state.steps, state.status, budget
        )
        finished = ~running(steps, status, max_steps) & (index < end)
        # Distinct out-of-range targets for the other slots: a TPU would sort indices that may repeat.
        dropped = end + jnp.arange(size, dtype=jnp.int32)
        target = jnp.where(finished, jnp.asarray(offsets)[state.kind] * size + index, dropped)
        if plan.progress:
            jax.debug.callback(progress.report, jnp.sum(finished & tile_lanes.live))
        exhausted = (head >= total) & ~jnp.any(running(steps, status, max_steps))
        return State(
            limits=state.limits.at[target].set(limits.T, mode="drop", unique_indices=True),
            ends=state.ends.at[target].set(steps * STATUSES + status, mode="drop", unique_indices=True),
            executed=state.executed.at[state.kind].add(executed),
            kind=state.kind + exhausted,
            head=jnp.where(exhausted, 0, head),
            lane=index,
            w=w,
            steps=steps,
            status=status,
        )

    zero = jnp.zeros((), jnp.int32)
    state = State(
        limits=jnp.zeros((end, rows), plan.dtype),
        ends=jnp.zeros(end, jnp.int32),
        executed=jnp.zeros(len(block.kinds), jnp.int32),
        kind=zero,
        head=zero,
        lane=jnp.full(size, end, jnp.int32),
        w=jnp.zeros((rows, size), plan.dtype),
        steps=jnp.zeros(size, jnp.int32),
        status=jnp.full(size, Status.CONVERGED, jnp.int8),
    )
    state = jax.lax.while_loop(lambda state: state.kind < len(block.kinds), refill_and_run, state)
    steps, status = div_rem(state.ends.reshape(-1, size), STATUSES)
    return state.limits, steps, status, state.executed
