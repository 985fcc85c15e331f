"""The compiled program of a sweep.

Bit reproducibility: a lane's bits are the same in any grid, on any number of devices of a kind. Five rules see to it;
comments cite them by number.

1. A choice between codes has one more branch, never taken: a single one would be inlined, and might round differently.
2. Numbers of tiles are arguments: a loop of known length 1 would be inlined too.
3. Lanes are drawn and measured with d rounded up (``plan.ROWS``), zeros below: near d share that code.
4. Limits are measured in branches of their own: compiled alike, whatever stands around them.
5. On CPUs sums over d are written out row by row: how XLA's library rounds depends on what it finds around a sum.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from rvsmjax.sweep._program import draws, progress, queue
from rvsmjax.sweep._program.measure import Measures, certificates
from rvsmjax.sweep._program.plan import INNER, Block, Plan
from rvsmjax.sweep._program.runners import Runners, in_whole_tiles, stored_at_home

# XLA prefers half of AVX-512's width; where there is none the preference has no effect. What two of these passes move
# out of loops is out of them here already, and with this many loops they take most of the time of compiling. The third
# splits the work on a tile among threads, which costs more than that work; cores are for devices. On a GPU most of the
# time of compiling would go to trying several forms of operations that take next to none of the run.
_PASSES_LEFT_OUT = "while-loop-invariant-code-motion,simplify-while-loops,cpu-parallel-task-assigner"
OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_cpu_prefer_vector_width": "512", "xla_disable_hlo_passes": _PASSES_LEFT_OUT},
    "gpu": {"xla_gpu_autotune_level": "0"},
}


@functools.lru_cache(maxsize=64)
def compile_plan(plan: Plan, key_impl: Any) -> Any:
    """Returns the compiled program of a plan: one trace, one executable."""
    mesh = Mesh(np.asarray(plan.devices), ("lanes",))
    return lower_plan(plan, key_impl, mesh).compile(OPTIONS.get(plan.devices[0].platform))


def lower_plan(plan: Plan, key_impl: Any, mesh: Mesh | AbstractMesh, platforms: tuple[str, ...] | None = None) -> Any:
    """Returns the lowered program of a plan, for the devices of a mesh or for platforms that need not be there."""
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
    everywhere, split = PartitionSpec(), PartitionSpec("lanes")
    sharded = jax.shard_map(local, mesh=mesh, in_specs=everywhere, out_specs=split, check_vma=False)
    traced = jax.jit(sharded).trace(axes, leaves, cells, tiles, key_data, tol, count)
    with warnings.catch_warnings():
        # Where the backend is gone for good, ``engines.chosen`` says so.
        warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
        return traced.lower(lowering_platforms=platforms)


def _run_block(
    block: Block, axes: Any, leaves: list[Any], cells: Array, counts: Array, key: Array, tol: Array, max_steps: Array
) -> dict[str, Array]:
    """Runs this device's lanes of a block to their limits and measures them.

    Each kind's lanes are dealt out to the devices tile by tile, so that slow and fast cells are shared out.
    """
    # Rule 2.
    rounds, seed_tiles = counts[:-1], counts[-1]
    drawn = draws.draw(block, axes["seed"], seed_tiles, key)
    orders = draws.order_seeds(block, drawn)
    lanes = functools.partial(draws.lanes_at, block, axes, cells, drawn, orders)
    runners, measures = Runners(block, leaves, tol, max_steps), Measures(block, leaves)
    run = _in_whole_tiles if in_whole_tiles(block) else _in_a_queue
    found, steps, status, executed = run(block, runners, measures, lanes, rounds, max_steps)
    return {
        **certificates(found)._asdict(),
        "steps": steps,
        "status": status.astype(jnp.int8),
        "executed": executed,
        "width": jnp.asarray(runners.together, jnp.int32),
        "orders": orders,
    }


def _in_a_queue(
    block: Block, runners: Runners, measures: Measures, lanes: Any, rounds: Array, max_steps: Array
) -> tuple[Array, Array, Array, Array]:
    """Runs all lanes, then measures them tile by tile: measures, steps, status, steps run of each kind."""
    size = block.plan.tile
    limits, steps, status, executed = queue.run(block, runners, lanes, rounds, max_steps)

    def one(i: Array, found: Array) -> Array:
        kind, places = _tile_at(block, i)
        w = jax.lax.dynamic_slice_in_dim(limits, i * size, size).T
        own = measures(kind, lanes(kind, places), w, i < jnp.sum(rounds))
        return jax.lax.dynamic_update_index_in_dim(found, own, i, 0)

    found = jax.lax.fori_loop(0, jnp.sum(rounds), one, measures.room(block.starts[-1], size))
    return found, steps, status, executed


def _in_whole_tiles(
    block: Block, runners: Runners, measures: Measures, lanes: Any, rounds: Array, max_steps: Array
) -> tuple[Array, Array, Array, Array]:
    """Runs and measures tile after tile, each to its end at once: measures, steps, status, steps run of each kind.

    One device stores them in the grid's order, as one tile; of more each stores its tiles.
    """
    size, tiles, rows = block.plan.tile, block.starts[-1], block.kinds[0].rows
    at_home = stored_at_home(block)
    none, all_fresh = jnp.zeros(size, jnp.int32), jnp.ones(size, bool)

    def one(i: Array, found: Any) -> Any:
        kind, places = _tile_at(block, i)
        own = lanes(kind, places)
        start = jnp.zeros((rows, size), block.plan.dtype), none, none.astype(jnp.int8)
        _, w, steps, status, executed = runners(kind, own, all_fresh, *start, jnp.zeros((), jnp.int32))
        if block.plan.progress:
            jax.debug.callback(progress.report, jnp.sum(own.live))
        ends = jnp.stack([steps, status.astype(jnp.int32)])
        new = measures(kind, own, w, i < jnp.sum(rounds)), ends
        *stored, total = found
        if at_home:
            nowhere = block.homes[-1] + jnp.arange(size, dtype=jnp.int32)
            there = jnp.where(own.live, jnp.asarray(block.homes)[kind] + own.home, nowhere)
            put = lambda a, b: a.at[0, :, there].set(b.T, mode="drop", unique_indices=True)  # noqa: E731
        else:
            put = lambda a, b: jax.lax.dynamic_update_index_in_dim(a, b, i, 0)  # noqa: E731
        return *map(put, stored, new), total.at[kind].add(executed)

    shape = (1, block.homes[-1]) if at_home else (tiles, size)
    room = measures.room(*shape), jnp.zeros((shape[0], 2, shape[1]), jnp.int32)
    measured, ended, executed = jax.lax.fori_loop(
        0, jnp.sum(rounds), one, (*room, jnp.zeros(len(block.kinds), jnp.int32))
    )
    return measured, ended[:, 0], ended[:, 1], executed


def _tile_at(block: Block, i: Array) -> tuple[Array, Array]:
    """Returns the kind of this device's tile i, and the places of its lanes in the kind's list."""
    kind = jnp.sum(i >= jnp.asarray(block.starts[1:]), dtype=jnp.int32)
    first = (i - jnp.asarray(block.starts)[kind]) * block.plan.tile
    return kind, first + jnp.arange(block.plan.tile, dtype=jnp.int32)
