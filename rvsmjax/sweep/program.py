"""The compiled program of a sweep."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from rvsmjax.penalties import moreau_envelope
from rvsmjax.solve import Status
from rvsmjax.sweep import kernel
from rvsmjax.sweep.grid import ACTIVATIONS
from rvsmjax.sweep.plan import INNER, Block, Kind, Plan
from rvsmjax.sweep.step import Tile, advance, residual
from rvsmjax.theory import Certificate, certificate_at

CHECK_EVERY = 8
"""Steps between looks at the residual: a lane's count of steps is a multiple of it."""
IDLE = 16
"""Steps of a whole tile that may be spent on lanes that have ended before others take their place."""
NO_LIMIT = 2**30

Progress = Callable[[int, int], None]

# XLA prefers half of AVX-512's width; where there is none the preference has no effect.
_OPTIONS: dict[str, dict[str, str | bool]] = {"cpu": {"xla_cpu_prefer_vector_width": "512"}}


@functools.lru_cache(maxsize=64)
def compile_plan(plan: Plan, key_impl: Any) -> Any:
    """Returns the compiled program of a plan: one trace, one executable."""
    number = jnp.dtype(plan.dtype)
    axes = {name: jax.ShapeDtypeStruct((n,), number) for name, n in zip(INNER, plan.lengths, strict=True)}
    axes["seed"] = jax.ShapeDtypeStruct((plan.lengths[-1],), jnp.uint32)
    leaves = [[jax.ShapeDtypeStruct((len(k.entries),), number)] * k.penalty.num_leaves for k in plan.kinds]
    count = jax.ShapeDtypeStruct((), jnp.int32)
    cells = jax.ShapeDtypeStruct((math.prod(plan.lengths[:-1]),), jnp.int32)
    tiles = [jax.ShapeDtypeStruct((len(block.kinds) + 1,), jnp.int32) for block in plan.blocks]
    key_data = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=key_impl)))

    def local(
        axes: Any, leaves: Any, cells: Array, counts: Any, key_data: Array, tol: Array, max_steps: Array
    ) -> list[Any]:
        key = jax.random.wrap_key_data(key_data, impl=key_impl)
        own = dict(zip(plan.kinds, leaves, strict=True))
        return [
            _run_block(block, axes, [own[kind] for kind in block.kinds], cells, n, key, tol, max_steps)
            for block, n in zip(plan.blocks, counts, strict=True)
        ]

    tol = jax.ShapeDtypeStruct((), number)
    mesh = Mesh(np.asarray(plan.devices), ("lanes",))
    everywhere, split = PartitionSpec(), PartitionSpec("lanes")
    sharded = jax.shard_map(local, mesh=mesh, in_specs=everywhere, out_specs=split, check_vma=False)
    return (
        jax.jit(sharded)
        .lower(axes, leaves, cells, tiles, key_data, tol, count)
        .compile(_OPTIONS.get(plan.devices[0].platform))
    )


def _run_block(
    block: Block, axes: Any, leaves: list[Any], cells: Array, counts: Array, key: Array, tol: Array, max_steps: Array
) -> dict[str, Any]:
    """Runs this device's tiles of a block to their limits, then measures them.

    Each kind's tiles are dealt out to the devices in turn, so that slow and fast cells are shared out.
    """
    plan = block.plan
    # The numbers of tiles are arguments: a loop of known length 1 would be inlined, and might round differently.
    *rounds, seed_tiles = counts
    draws = _draw(block, axes["seed"], seed_tiles, key)
    orders = _orders(block, draws)
    lanes = [
        functools.partial(_lanes, plan, kind, own, axes, cells, draws, orders[block.widths.index(kind.d)])
        for kind, own in zip(block.kinds, leaves, strict=True)
    ]
    ends = [
        _run_kind(plan, kind, room, own, number, tol, max_steps)
        for kind, room, own, number in zip(block.kinds, block.rounds, lanes, rounds, strict=True)
    ]
    starts = (0, *itertools.accumulate(block.rounds))
    branches: list[Callable[..., Any]] = [
        functools.partial(_limits, block, *pair) for pair in zip(lanes, ends, strict=True)
    ]
    # One more, never taken: a single branch would be inlined, and might round differently.
    branches.append(lambda i: jax.tree.map(jnp.zeros_like, branches[0](i)))

    def measure(*lanes: Any) -> Certificate:
        return jax.vmap(certificate_at, in_axes=(0, 0, 0, 0, 1, 1, 1, 0))(*lanes)

    def skip(*lanes: Any) -> Certificate:
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(measure, *lanes))

    def one(i: Array) -> Certificate:
        which = jnp.searchsorted(jnp.asarray(starts[1:]), i, side="right")
        found = jax.lax.switch(which, branches, i - jnp.asarray(starts)[which])
        # A branch of its own, so that it is compiled alike and rounds alike whatever stands around it.
        return jax.lax.cond(i < sum(rounds), measure, skip, *found)

    def store(i: Array, stored: Certificate) -> Certificate:
        return jax.tree.map(lambda a, b: jax.lax.dynamic_update_index_in_dim(a, b, i, 0), stored, one(i))

    shapes = jax.eval_shape(one, jax.ShapeDtypeStruct((), jnp.int32))
    room = jax.tree.map(lambda s: jnp.zeros((starts[-1], *s.shape), s.dtype), shapes)
    measured = jax.lax.fori_loop(0, sum(rounds), store, room)
    steps, status = (jnp.concatenate([getattr(end, name) for end in ends]) for name in ("steps", "status"))
    executed, width = (jnp.stack([getattr(end, name) for end in ends]) for name in ("executed", "width"))
    tiles = {"steps": steps.reshape(-1, plan.tile), "status": status.reshape(-1, plan.tile)}
    return {**measured._asdict(), **tiles, "executed": executed, "width": width, "orders": orders}


def _draw(block: Block, seeds: Array, tiles: Array, key: Array) -> Array:
    """Returns normal draws for w* and w⁰ of every seed, of shape (2, rows, seeds rounded up to tiles).

    Lanes of smaller d take the first d rows.
    """
    tile, rows = block.plan.tile, block.kinds[0].rows
    seeds = jnp.pad(seeds, (0, -len(seeds) % tile))

    def draw(seed: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, seed), (2, rows), block.plan.dtype)

    def one(i: Array, stored: Array) -> Array:
        drawn = jax.vmap(draw, out_axes=2)(jax.lax.dynamic_slice_in_dim(seeds, i * tile, tile))
        return jax.lax.dynamic_update_slice_in_dim(stored, drawn, i * tile, 2)

    return jax.lax.fori_loop(0, tiles, one, jnp.zeros((2, rows, len(seeds)), block.plan.dtype))


def _orders(block: Block, draws: Array) -> Array:
    """Returns for each d of a block its seeds, of shape (widths, seeds), those first that begin far from w*.

    That angle tells most of how many steps a lane needs.
    """

    def cosine(d: int) -> Array:
        (a, b), (c, e) = draws[:, :d], jnp.sum(draws[:, :d] ** 2, 1)
        return jnp.sum(a * b, 0) * jax.lax.rsqrt(c * e)

    seeds = block.plan.lengths[-1]
    return jnp.argsort(jnp.stack([cosine(d)[:seeds] for d in block.widths]), 1).astype(jnp.int32)


def _lanes(
    plan: Plan, kind: Kind, own: list[Array], axes: Any, cells: Array, draws: Array, order: Array, place: Array
) -> tuple[Tile, Array, Array]:
    """Returns the tile of the lanes at some places of this device's list of a kind, their starts, and which are lanes.

    Places are by cell, in the order of ``cells``, then by entry of the penalty axis, then by seed as in ``order``: slow
    ones first. Those past the last lane are padding.
    """
    tile, column = place // plan.tile, place % plan.tile
    whole = (tile * len(plan.devices) + jax.lax.axis_index("lanes")) * plan.tile + column
    entries, seeds = len(kind.entries), plan.lengths[-1]
    live = whole < entries * len(cells) * seeds
    rank, entry, seed = whole // (entries * seeds), whole // seeds % entries, whole % seeds
    places = jnp.unravel_index(cells[jnp.minimum(rank, len(cells) - 1)], plan.lengths[:-1])
    k, lam, beta, rate = (axes[name][place] for name, place in zip(INNER[:-1], places, strict=True))
    drawn = draws[:, : kind.d, order[seed]]
    w_star, w = drawn * jax.lax.rsqrt(jnp.sum(drawn**2, 1, keepdims=True))
    problem = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, k.shape).astype(k.dtype), ACTIVATIONS[plan.activation](k)
    )
    rate = rate if plan.given_rate else problem.largest_learning_rate(beta)
    penalty = jax.tree.unflatten(kind.penalty, [leaf[entry] for leaf in own])
    return Tile(problem, penalty, lam, beta, rate, w_star, kind.normalize), w, live


class Ends(NamedTuple):
    """Where the lanes of a kind on this device have come to, at their places.

    Attributes:
      w: of shape (lanes, d).
      steps: of each lane.
      status: of each lane.
      executed: steps of all blocks of lanes that stop together.
      width: lanes of such a block.
    """

    w: Array
    steps: Array
    status: Array
    executed: Array
    width: Array


def _run_kind(
    plan: Plan, kind: Kind, room: int, lanes: Callable[..., Any], rounds: Array, tol: Array, max_steps: Array
) -> Ends:
    """Runs this device's lanes of a kind in one tile, in which new lanes take the places of those that have ended.

    Each time the tile stops, what has ended is written to its place. Slow lanes come first, so that few are left alone
    at the end.
    """
    tile, columns = plan.tile, jnp.arange(plan.tile, dtype=jnp.int32)
    in_kernel = plan.engine != "xla" and kernel.fits(kind.d, jax.eval_shape(lanes, columns)[0].penalty.separable)
    n, total = room * tile, rounds * tile

    def work(place: Array, fresh: Array, w: Array, steps: Array, status: Array, budget: Array) -> Any:
        own, start, live = lanes(jnp.minimum(place, n - 1))
        w = jnp.where(fresh, start, w)
        steps = jnp.where(fresh, 0, steps)
        status = jnp.where(fresh, jnp.where(live, Status.CAP, Status.CONVERGED), status).astype(jnp.int8)
        if in_kernel:
            w, executed, steps, status = kernel.run(
                _loop, own, w, steps, status, tol, max_steps, plan.engine == "interpret"
            )
        else:
            w, executed, steps, status = _loop(own, w, steps, status, budget, tol, max_steps)
        return w, steps, status, executed, live

    def rest(place: Array, fresh: Array, w: Array, steps: Array, status: Array, budget: Array) -> Any:
        return w, steps, status, budget, fresh

    def one(carry: Any) -> Any:
        ends, place, w, steps, status, head = carry
        free = ~_running(steps, status, max_steps)
        new = head + jnp.cumsum(free, dtype=jnp.int32) - 1
        fresh = free & (new < total)
        place = jnp.where(free, jnp.where(fresh, new, n), place)
        head = jnp.minimum(head + jnp.sum(free, dtype=jnp.int32), total)
        budget = jnp.where(head < total, IDLE * tile, NO_LIMIT).astype(jnp.int32)
        # A branch of its own, so that it is compiled alike and rounds alike whatever stands around it.
        w, steps, status, executed, live = jax.lax.cond(head > 0, work, rest, place, fresh, w, steps, status, budget)
        ended = ~_running(steps, status, max_steps) & (place < n)
        there = jnp.where(ended, place, n)  # else nowhere
        ends = ends._replace(
            w=ends.w.at[there].set(w.T, mode="drop"),
            steps=ends.steps.at[there].set(steps, mode="drop"),
            status=ends.status.at[there].set(status, mode="drop"),
            executed=ends.executed + executed,
        )
        if plan.progress:
            jax.debug.callback(_report, jnp.sum(ended & live))
        return ends, place, w, steps, status, head

    def unfinished(carry: Any) -> Array:
        _, _, _, steps, status, head = carry
        return (head < total) | jnp.any(_running(steps, status, max_steps))

    none, width = jnp.zeros((), jnp.int32), kernel.lanes_of_a_block(kind.d) if in_kernel else tile
    ends = Ends(
        jnp.zeros((n, kind.d), plan.dtype), jnp.zeros(n, jnp.int32), jnp.zeros(n, jnp.int8), none, jnp.int32(width)
    )
    idle = jnp.full(tile, Status.CONVERGED, jnp.int8)
    start = (ends, jnp.full(tile, n), jnp.zeros((kind.d, tile), plan.dtype), jnp.zeros(tile, jnp.int32), idle, none)
    return jax.lax.while_loop(unfinished, one, start)[0]


def _running(steps: Array, status: Array, max_steps: Array) -> Array:
    """Tells which lanes go on. Until it ends in another way a lane is one that the cap would end."""
    return (status == Status.CAP) & (steps < max_steps)


def _limits(block: Block, lanes: Callable[..., Any], ends: Ends, tile: Array) -> Any:
    """Returns what ``certificate_at`` takes of the lanes of one tile."""
    size = block.plan.tile
    own, _, _ = lanes(tile * size + jnp.arange(size, dtype=jnp.int32))
    w, step = jax.lax.dynamic_slice_in_dim(ends.w, tile * size, size).T, own.lam / own.beta
    u = jax.vmap(lambda penalty, v, s: penalty.prox(v, s), (0, 1, 0), 1)(own.penalty, w, step)
    envelope = jax.vmap(moreau_envelope, (0, 1, 0))(own.penalty, w, step)
    d = len(w)
    vectors = [jnp.pad(v, ((0, block.kinds[0].rows - d), (0, 0))) for v in (w, own.w_star, u)]
    return own.problem, own.lam, own.beta, jnp.full(size, d, jnp.int32), *vectors, envelope


def _loop(
    tile: Tile, w: Array, steps: Array, status: Array, budget: Array | int, tol: Array, max_steps: Array
) -> tuple[Array, Array, Array, Array]:
    """Runs a tile until its lanes have ended, or until those that have, held still, have cost ``budget`` lane-steps.

    Returns:
      w, the steps run, the steps of each lane, the status of each lane.
    """

    def body(carry: Any) -> Any:
        w, t, idle, steps, status = carry
        new = advance(tile, w, CHECK_EVERY)
        res = residual(tile, new)
        going, finite = _running(steps, status, max_steps), jnp.isfinite(res)
        ended = jnp.where(res <= tol, Status.CONVERGED, Status.CAP)
        status = jnp.where(going, jnp.where(finite, ended, Status.DIVERGED), status).astype(status.dtype)
        steps = steps + CHECK_EVERY * going
        idle = jnp.minimum(idle + CHECK_EVERY * jnp.sum(~_running(steps, status, max_steps), dtype=jnp.int32), NO_LIMIT)
        return jnp.where(going & finite, new, w), t + CHECK_EVERY, idle, steps, status

    def unfinished(carry: Any) -> Array:
        _, _, idle, steps, status = carry
        return jnp.any(_running(steps, status, max_steps)) & ((idle < budget) | (budget == NO_LIMIT))

    none = jnp.zeros((), jnp.int32)
    w, executed, _, steps, status = jax.lax.while_loop(unfinished, body, (w, none, none, steps, status))
    return w, executed, steps, status


class reporting:
    """Sends the progress of the running program to ``progress`` while the block runs."""

    current: reporting | None = None

    def __init__(self, progress: Progress | None, lanes: int) -> None:
        self.progress, self.lanes, self.done = progress, lanes, 0

    def __enter__(self) -> None:
        reporting.current = self

    def __exit__(self, *exception: Any) -> None:
        jax.effects_barrier()
        reporting.current = None


def _report(ended: Any) -> None:
    now = reporting.current
    if now is not None and now.progress is not None:
        now.done += int(ended)
        now.progress(now.done, now.lanes)
