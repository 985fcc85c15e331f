"""A grid of lanes in one accelerator call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rvsmjax import _checks
from rvsmjax.certificate import Certificate
from rvsmjax.solve import Status
from rvsmjax.sweep._program import program
from rvsmjax.sweep._program.arguments import arguments, cell_order, check_size
from rvsmjax.sweep._program.plan import Plan, make_plan, precision
from rvsmjax.sweep._program.progress import Progress, reporting
from rvsmjax.sweep._program.runners import stored_at_home
from rvsmjax.sweep._tiles.loop import MOST_STEPS
from rvsmjax.sweep.grid import Grid
from rvsmjax.sweep.result import SweepResult


def run_sweep(
    grid: Grid,
    key: Array | None = None,
    *,
    tol: float = 1e-6,
    max_steps: int = 100_000,
    dtype: Any = None,
    devices: Sequence[Any] | None = None,
    progress: Progress | None = None,
    engine: str = "auto",
) -> SweepResult:
    """Runs RVSM on every lane of ``grid`` to its limit, in one call of one compiled program, on all devices.

    Lanes are run in tiles; a tile stops when its last lane has. A lane's result depends on its own parameters, its seed
    and ``key`` alone: to the bit it is the same in any grid, on devices of the same kind. New numbers on axes of the
    same lengths do not recompile.

    After ``jax.distributed.initialize`` the devices are those of all processes. Each process makes the same call, and
    each gets the whole result.

    Args:
      grid: the lanes.
      key: root key; a lane draws from ``fold_in(key, seed)``. Default ``jax.random.key(0)``.
      tol: bound > 0 on the residual ‖∇f(w) + β(w − u)‖ (tangential on the sphere) at which a lane has converged. In
        float32 it cannot fall much under 3e-8/η: with the binary activation, whose η is about 5/k, under 1e-8·k.
      max_steps: step cap of a lane, 1 to 2²⁸, rounded up to a multiple of 16.
      dtype: working precision; default is JAX's default float, float32 unless 64-bit numbers are enabled.
      devices: default all devices, of every process.
      progress: called as ``progress(lanes_done, lanes)`` from another thread while the program runs; of this process.
      engine: ``"xla"``, a loop in XLA; ``"cuda"``, a kernel for NVIDIA GPUs that keeps w in registers, in float32;
        ``"pallas"``, another; ``"interpret"``, that one as plain JAX, slow; ``"auto"``, what was measured to be the
        fastest on devices of this name, else the loop. What a kernel lacks (d beyond 2048 or 512, penalties that are
        not separable) the loop runs; a device that cannot run the kernel gets the loop and a warning. They agree to
        rounding.

    Raises:
      TypeError: ``grid`` is no Grid.
      ValueError: ``tol`` <= 0, ``max_steps`` out of range, an unknown precision or engine, a grid whose result does
        not fit in memory.

    Source: A Algorithm 1, Tables 1 to 3.

    Example:
      >>> result = run_sweep(Grid(penalty="l0", d=10, k=2, seeds=4))
      >>> result.data["status"].ravel().tolist()
      [0, 0, 0, 0]
    """
    if not isinstance(grid, Grid):
        raise TypeError(f"grid must be a Grid, got {grid!r}")
    _checks.positive("tol", tol)
    max_steps = _checks.count("max_steps", max_steps)
    if max_steps > MOST_STEPS:
        raise ValueError(f"max_steps must be at most 2**28, got {max_steps:,}")
    key = jax.random.key(0) if key is None else key
    places = tuple(jax.devices() if devices is None else devices)
    plan = make_plan(grid, precision(dtype), places, progress is not None, engine)
    check_size(grid, plan)
    inputs = arguments(grid, plan, key, tol, max_steps)

    started = time.perf_counter()
    misses = program.compile_plan.cache_info().misses
    run = program.compile_plan(plan, jax.random.key_impl(key))
    compiled = time.perf_counter()
    with reporting(progress, grid.size):
        outputs = _gathered(jax.block_until_ready(run(*_replicated(inputs, places))))
    finished = time.perf_counter()
    return SweepResult(
        grid=grid,
        data=_assemble(grid, plan, outputs),
        tol=float(tol),
        compile_seconds=compiled - started if program.compile_plan.cache_info().misses > misses else 0.0,
        run_seconds=finished - compiled,
        steps_executed=int(sum((np.asarray(o["executed"], np.int64) * o["width"]).sum() for o in outputs)),
        devices=tuple(f"{device.platform}: {device.device_kind}" for device in places),
    )


def _replicated(inputs: Any, devices: Sequence[Any]) -> Any:
    """Returns the inputs as they are where this process has all devices, else on the devices of all processes."""
    if all(device.process_index == jax.process_index() for device in devices):
        return inputs
    everywhere = NamedSharding(Mesh(np.asarray(devices), ("lanes",)), PartitionSpec())
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(np.shape(x), everywhere, lambda index: np.asarray(x)[index]), inputs
    )


def _gathered(outputs: Any) -> Any:
    """Returns the outputs whole, in every process."""
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(outputs)):
        return outputs
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(outputs, tiled=True)


def _assemble(grid: Grid, plan: Plan, outputs: Any) -> dict[str, np.ndarray]:
    """Puts the tiles in their place in arrays of the grid's shape."""
    shape, axes, cells = tuple(grid.shape.values()), grid.axes, cell_order(grid)
    data: dict[str, np.ndarray] = {}
    for block, out in zip(plan.blocks, outputs, strict=True):
        orders = np.asarray(out["orders"])[: len(block.widths)]
        at_home = stored_at_home(block)
        starts = block.homes if at_home else block.starts
        for name in (*Certificate._fields, "steps", "status"):
            by_device = np.asarray(out[name]).reshape(len(plan.devices), starts[-1], 1 if at_home else plan.tile)
            whole = data.setdefault(name, np.empty(shape, by_device.dtype))
            for kind, lanes, first, end in zip(block.kinds, block.lanes, starts, starts[1:], strict=False):
                tiles = by_device[:, first:end].swapaxes(0, 1).reshape(-1)[:lanes]
                if at_home:
                    values = tiles
                else:
                    found = tiles.reshape(len(cells), len(kind.entries), -1)
                    values = np.empty((len(kind.entries), len(cells), plan.lengths[-1]), found.dtype)
                    order = orders[block.widths.index(kind.d)]
                    values[:, cells[:, None], order] = found.swapaxes(0, 1)
                values = values.reshape(len(kind.entries), *plan.lengths)
                place = axes.d.index(kind.d), ..., axes.normalize.index(kind.normalize), slice(None)
                whole[(list(kind.entries), *place)] = values
    lost = data["status"] == Status.DIVERGED
    if lost.any():
        for name in set(Certificate._fields) - {"zeros"}:
            data[name][lost] = np.nan
    return data
