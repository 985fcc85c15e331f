"""Compiled program of a sweep: draws, runs and measures all lanes, on all devices.

Bit reproducibility: a lane's result is bit-identical in any grid and on any number of devices of the same kind. Five
rules ensure this; comments cite them by number.

1. Every switch has an extra branch that never runs: XLA would inline a single branch, which might round differently.
2. Tile counts are arguments, not constants: XLA would inline a loop of known length 1.
3. Lanes are drawn and measured with d zero-padded to a multiple of ``plan.ROWS``, so nearby d share that code.
4. Limits are measured inside separate branches, so XLA compiles them alike in any surrounding code.
5. On CPUs sums over d are unrolled row by row: the rounding of XLA's library reduction depends on the code around it.
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
from rvsmjax.sweep._program.runners import Runners, runs_whole_tiles, stores_in_grid_order

# By default XLA uses 256-bit vectors on AVX-512 CPUs; on other CPUs the option has no effect. The first two disabled
# passes hoist loop invariants, which are hoisted here already, and would dominate compile time with this many loops.
# The third splits a tile's work among threads, which costs more than the work; cores serve as devices instead. On GPUs
# autotuning would dominate compile time for operations that take almost none of the run time.
_DISABLED_PASSES = "while-loop-invariant-code-motion,simplify-while-loops,cpu-parallel-task-assigner"
OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_cpu_prefer_vector_width": "512", "xla_disable_hlo_passes": _DISABLED_PASSES},
    "gpu": {"xla_gpu_autotune_level": "0"},
}


@functools.lru_cache(maxsize=64)
def compile_plan(plan: Plan, key_impl: Any) -> Any:
    """Returns the compiled program of a plan, cached."""
    mesh = Mesh(np.asarray(plan.devices), ("lanes",))
    return lower_plan(plan, key_impl, mesh).compile(OPTIONS.get(plan.devices[0].platform))


def lower_plan(plan: Plan, key_impl: Any, mesh: Mesh | AbstractMesh, platforms: tuple[str, ...] | None = None) -> Any:
    """Returns the lowered program of a plan, for the devices of a mesh or for ``platforms``, present or not."""
    dtype = jnp.dtype(plan.dtype)
    axes = {name: jax.ShapeDtypeStruct((n,), dtype) for name, n in zip(INNER, plan.lengths, strict=True)}
    axes["seed"] = jax.ShapeDtypeStruct((plan.lengths[-1],), jnp.uint32)
    leaves = [[jax.ShapeDtypeStruct((len(k.entries),), dtype)] * k.penalty.num_leaves for k in plan.kinds]
    max_steps = jax.ShapeDtypeStruct((), jnp.int32)
    cells = jax.ShapeDtypeStruct((math.prod(plan.lengths[:-1]),), jnp.int32)
    tile_counts = [jax.ShapeDtypeStruct((len(block.kinds) + 1,), jnp.int32) for block in plan.blocks]
    key_data = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=key_impl)))

    def local(
        axes: Any, leaves: Any, cells: Array, tile_counts: Any, key_data: Array, tol: Array, max_steps: Array
    ) -> list[Any]:
        key = jax.random.wrap_key_data(key_data, impl=key_impl)
        leaves_of = dict(zip(plan.kinds, leaves, strict=True))
        return [
            _run_block(block, axes, [leaves_of[kind] for kind in block.kinds], cells, n, key, tol, max_steps)
            for block, n in zip(plan.blocks, tile_counts, strict=True)
        ]

    tol = jax.ShapeDtypeStruct((), dtype)
    replicated, split = PartitionSpec(), PartitionSpec("lanes")
    sharded = jax.shard_map(local, mesh=mesh, in_specs=replicated, out_specs=split, check_vma=False)
    traced = jax.jit(sharded).trace(axes, leaves, cells, tile_counts, key_data, tol, max_steps)
    with warnings.catch_warnings():
        # ``engines.resolve`` reports a missing backend.
        warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
        return traced.lower(lowering_platforms=platforms)


def _run_block(
    block: Block, axes: Any, leaves: list[Any], cells: Array, counts: Array, key: Array, tol: Array, max_steps: Array
) -> dict[str, Array]:
    """Runs this device's lanes of a block to their limits and measures them.

    Each kind's tiles alternate between devices, so slow and fast cells are spread evenly.
    """
    # Rule 2.
    tile_counts, seed_tiles = counts[:-1], counts[-1]
    drawn = draws.draw(block, axes["seed"], seed_tiles, key)
    orders = draws.order_seeds(block, drawn)
    lanes = functools.partial(draws.lanes_at, block, axes, cells, drawn, orders)
    runners, measures = Runners(block, leaves, tol, max_steps), Measures(block, leaves)
    run = _run_whole_tiles if runs_whole_tiles(block) else _run_queue
    measured, steps, status, executed = run(block, runners, measures, lanes, tile_counts, max_steps)
    return {
        **certificates(measured)._asdict(),
        "steps": steps,
        "status": status.astype(jnp.int8),
        "executed": executed,
        "width": jnp.asarray(runners.group_sizes, jnp.int32),
        "orders": orders,
    }


def _run_queue(
    block: Block, runners: Runners, measures: Measures, lanes: Any, tile_counts: Array, max_steps: Array
) -> tuple[Array, Array, Array, Array]:
    """Runs all lanes, then measures them tile by tile: returns measures, steps, status, steps executed by kind."""
    size = block.plan.tile
    limits, steps, status, executed = queue.run(block, runners, lanes, tile_counts, max_steps)

    def measure_tile(i: Array, measured: Array) -> Array:
        kind, index = _tile_at(block, i)
        w = jax.lax.dynamic_slice_in_dim(limits, i * size, size).T
        measure = measures(kind, lanes(kind, index), w, i < jnp.sum(tile_counts))
        return jax.lax.dynamic_update_index_in_dim(measured, measure, i, 0)

    measured = jax.lax.fori_loop(0, jnp.sum(tile_counts), measure_tile, measures.zeros(block.tile_offsets[-1], size))
    return measured, steps, status, executed


def _run_whole_tiles(
    block: Block, runners: Runners, measures: Measures, lanes: Any, tile_counts: Array, max_steps: Array
) -> tuple[Array, Array, Array, Array]:
    """Runs each tile to completion and measures it: returns measures, steps, status, steps executed by kind.

    A single device stores results in grid order, as one long tile; several devices store tile by tile.
    """
    size, tiles, rows = block.plan.tile, block.tile_offsets[-1], block.kinds[0].rows
    in_grid_order = stores_in_grid_order(block)
    zeros, all_fresh = jnp.zeros(size, jnp.int32), jnp.ones(size, bool)

    def run_and_measure(i: Array, carry: Any) -> Any:
        kind, index = _tile_at(block, i)
        tile_lanes = lanes(kind, index)
        start = jnp.zeros((rows, size), block.plan.dtype), zeros, zeros.astype(jnp.int8)
        _, w, steps, status, executed = runners(kind, tile_lanes, all_fresh, *start, jnp.zeros((), jnp.int32))
        if block.plan.progress:
            jax.debug.callback(progress.report, jnp.sum(tile_lanes.live))
        ends = jnp.stack([steps, status.astype(jnp.int32)])
        new = measures(kind, tile_lanes, w, i < jnp.sum(tile_counts)), ends
        *stored, total = carry
        if in_grid_order:
            dropped = block.lane_offsets[-1] + jnp.arange(size, dtype=jnp.int32)
            target = jnp.where(tile_lanes.live, jnp.asarray(block.lane_offsets)[kind] + tile_lanes.grid_index, dropped)
            put = lambda a, b: a.at[0, :, target].set(b.T, mode="drop", unique_indices=True)  # noqa: E731
        else:
            put = lambda a, b: jax.lax.dynamic_update_index_in_dim(a, b, i, 0)  # noqa: E731
        return *map(put, stored, new), total.at[kind].add(executed)

    shape = (1, block.lane_offsets[-1]) if in_grid_order else (tiles, size)
    empty = measures.zeros(*shape), jnp.zeros((shape[0], 2, shape[1]), jnp.int32)
    measured, ends, executed = jax.lax.fori_loop(
        0, jnp.sum(tile_counts), run_and_measure, (*empty, jnp.zeros(len(block.kinds), jnp.int32))
    )
    return measured, ends[:, 0], ends[:, 1], executed


def _tile_at(block: Block, i: Array) -> tuple[Array, Array]:
    """Returns the kind of this device's tile i and the queue indices of its lanes."""
    kind = jnp.sum(i >= jnp.asarray(block.tile_offsets[1:]), dtype=jnp.int32)
    first = (i - jnp.asarray(block.tile_offsets)[kind]) * block.plan.tile
    return kind, first + jnp.arange(block.plan.tile, dtype=jnp.int32)
