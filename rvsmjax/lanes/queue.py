"""The loop that ``run_lanes`` compiles: a tile of running lanes, refilled from a queue, narrower at the end.

A lane waits in the buffer as its initial state, moves into a free slot of the tile, and returns to the buffer when it
has ended. Lanes that have started are those that run and those that have ended, so the ended ones fill the buffer from
the front, behind the ones that still wait. All moves are gathers and contiguous writes: on a CPU, XLA scatters one row
at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

IDLE_STEPS = 2
"""Steps of a full tile that may be spent on lanes that have ended before their slots are refilled.

A refill costs about as much on a CPU, and steps lost equal to its cost are the best bound that knows nothing of what is
to come.
"""


class Loop(NamedTuple):
    """What the lanes run; functions of one lane."""

    init: Callable[[Any], Any]
    step: Callable[[Any, Any], Any]
    done: Callable[[Any, Any], Any]
    measure: Callable[[Any, Any], Any]


class Slots(NamedTuple):
    """Lanes of a tile; every array has a leading axis of slots.

    Attributes:
      state: state of the loop.
      numbers: the lane's numbers.
      lane: index of the lane; the number of lanes where the slot is empty.
      steps: steps it has run.
      running: whether it has neither met ``done`` nor the limit.
      ended: whether it has met ``done``.
    """

    state: Any
    numbers: Any
    lane: Array
    steps: Array
    running: Array
    ended: Array


class Ends(NamedTuple):
    """Lanes in the buffer, in the order in which they ended, before those that wait."""

    state: Any
    lane: Array
    steps: Array
    ended: Array


class Queue(NamedTuple):
    """State of the queue: how many lanes have started and how many have ended, and steps run at each width."""

    slots: Slots
    buffer: Ends
    started: Array
    finished: Array
    executed: Array


def run(
    loop: Loop, numbers: Any, total: Array, max_steps: Array, widths: tuple[int, ...]
) -> tuple[Any, Array, Array, Array]:
    """Returns ``measure`` of each lane, its steps, whether it met ``done``, and the steps run at each of ``widths``.

    Args:
      loop: the functions.
      numbers: a tree whose leaves have a leading axis of lanes, a multiple of ``widths[0]``.
      total: the number of lanes to run; results of the others mean nothing.
      max_steps: limit of a lane's steps.
      widths: slots in use, decreasing; the first is the size of the tile.
    """
    size = widths[0]
    lanes = jax.tree.leaves(numbers)[0].shape[0]
    start = _by_tile(size, jax.vmap(loop.init), numbers)
    state = jax.tree.map(lambda x: jnp.concatenate([x, x[:size]]), start)
    zero, none, every = (jnp.zeros(shape, jnp.int32) for shape in ((), size, lanes + size))
    queue = Queue(
        slots=Slots(
            state=jax.tree.map(lambda x: x[:size], state),
            numbers=jax.tree.map(lambda x: x[:size], numbers),
            lane=none + lanes,
            steps=none,
            running=none > 0,
            ended=none > 0,
        ),
        buffer=Ends(state, every, every, every > 0),
        started=zero,
        finished=zero,
        executed=jnp.zeros(len(widths), jnp.int32),
    )

    def turn(queue: Queue) -> Queue:
        slots, started = _refill(loop, queue, numbers, total, max_steps)
        slots, executed = _advance(loop, slots, max_steps, widths)
        buffer, finished = _store(slots, queue.buffer, queue.finished, lanes)
        return Queue(slots, buffer, started, finished, queue.executed + executed)

    queue = jax.lax.while_loop(lambda queue: queue.finished < total, turn, queue)
    index = jnp.arange(lanes, dtype=jnp.int32)
    # Lanes that were not run keep rows of their own, behind the others.
    lane = jnp.where(index < queue.finished, queue.buffer.lane[:lanes], index)
    back = jnp.zeros(lanes, jnp.int32).at[lane].set(index, unique_indices=True)
    ends = jax.tree.map(lambda x: x[back], queue.buffer)
    return _by_tile(size, jax.vmap(loop.measure), ends.state, numbers), ends.steps, ends.ended, queue.executed


def _by_tile(size: int, f: Callable[..., Any], *trees: Any) -> Any:
    """Returns ``f`` of trees with a leading axis of lanes, ``size`` lanes at a time: the same code for any number."""
    tiles = jax.tree.map(lambda x: x.reshape(x.shape[0] // size, size, *x.shape[1:]), trees)
    values = jax.lax.map(lambda tile: f(*tile), tiles)
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), values)


def _chosen(mask: Array) -> tuple[Array, Array]:
    """Returns the indices of the true entries, first in a vector of the size of ``mask``, and how many there are."""
    counts = jnp.cumsum(mask, dtype=jnp.int32)
    wanted = jnp.arange(1, mask.size + 1, dtype=jnp.int32)
    return jnp.searchsorted(counts, wanted, method="scan_unrolled").astype(jnp.int32), counts[-1]


def _where(mask: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(mask.reshape(len(mask), *[1] * (a.ndim - 1)), a, b), new, old)


def _refill(loop: Loop, queue: Queue, numbers: Any, total: Array, max_steps: Array) -> tuple[Slots, Array]:
    """Returns the running lanes, behind them new ones from the buffer, and how many lanes have started."""
    slots, buffer, started = queue.slots, queue.buffer, queue.started
    size, lanes = slots.lane.size, buffer.lane.size - slots.lane.size
    kept, count = _chosen(slots.running)
    position = jnp.arange(size, dtype=jnp.int32)
    old = position < count
    new = started + position - count
    fresh = ~old & (new < total)
    source = jnp.clip(new, 0, lanes - 1)
    lane = jnp.where(old, slots.lane[kept], jnp.where(fresh, source, lanes))
    own = jax.tree.map(lambda x: x[jnp.minimum(lane, lanes - 1)], numbers)
    state = _where(old, jax.tree.map(lambda x: x[kept], slots.state), jax.tree.map(lambda x: x[source], buffer.state))
    ended = fresh & jax.vmap(loop.done)(state, own)
    running = old | (fresh & ~ended & (max_steps > 0))
    steps = jnp.where(old, slots.steps[kept], 0)
    return Slots(state, own, lane, steps, running, ended), jnp.minimum(started + size - count, total)


def _advance(loop: Loop, slots: Slots, max_steps: Array, widths: tuple[int, ...]) -> tuple[Slots, Array]:
    """Runs the lanes in front: all slots, or, when many are empty, parts of decreasing width that cover the lanes."""
    size = widths[0]
    count = jnp.max(jnp.where(slots.running, jnp.arange(1, size + 1, dtype=jnp.int32), 0))
    executed, first = [], jnp.zeros((), jnp.int32)
    for width in widths:
        left = count - first
        parts = left // width if width != widths[-1] else -(-left // width)

        def part(i: Array, carry: tuple[Slots, Array], width: int = width, first: Array = first) -> tuple[Slots, Array]:
            slots, steps = carry
            at = first + i * width
            cut = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=at, slice_size=width)
            new, more = _run_some(loop, jax.tree.map(cut, slots), max_steps)
            put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=at, axis=0)
            return jax.tree.map(put, slots, new), steps + more

        slots, steps = jax.lax.fori_loop(0, parts, part, (slots, jnp.zeros((), jnp.int32)))
        executed.append(steps)
        first = first + parts * width
    return slots, jnp.stack(executed)


def _run_some(loop: Loop, slots: Slots, max_steps: Array) -> tuple[Slots, Array]:
    """Runs a tile until its lanes have ended, or steps of ended lanes are worth a refill; returns the steps, too."""
    width = slots.lane.size
    step, done = jax.vmap(loop.step), jax.vmap(loop.done)

    def go_on(carry: tuple[Any, Array, Array, Array, Array, Array]) -> Array:
        *_, left, idle = carry
        return (left > 0) & (idle <= IDLE_STEPS * width)

    def body(carry: tuple[Any, Array, Array, Array, Array, Array]) -> tuple[Any, Array, Array, Array, Array, Array]:
        state, steps, running, t, _, idle = carry
        state = _where(running, step(state, slots.numbers), state)
        steps = steps + running
        running = running & (steps < max_steps) & ~done(state, slots.numbers)
        still = jnp.sum(running, dtype=jnp.int32)
        return state, steps, running, t + 1, still, idle + before - still

    zero, before = jnp.zeros((), jnp.int32), jnp.sum(slots.running, dtype=jnp.int32)
    carry = (slots.state, slots.steps, slots.running, zero, before, zero)
    state, steps, running, t, _, _ = jax.lax.while_loop(go_on, body, carry)
    ended = slots.ended | (slots.running & ~running & done(state, slots.numbers))
    return Slots(state, slots.numbers, slots.lane, steps, running, ended), t


def _store(slots: Slots, buffer: Ends, finished: Array, lanes: int) -> tuple[Ends, Array]:
    """Returns the buffer with the lanes that have ended behind those before, and how many there are now."""
    source, count = _chosen(~slots.running & (slots.lane < lanes))
    # Behind the ended lanes go rows without meaning. They reach no waiting lane: while one waits, no slot was empty.
    rows = jax.tree.map(lambda x: x[source], Ends(slots.state, slots.lane, slots.steps, slots.ended))
    put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=finished, axis=0)
    return jax.tree.map(put, buffer, rows), finished + count
