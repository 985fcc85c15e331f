"""Entry point of sweeps: ``run_sweep`` compiles a grid, runs it and assembles the result."""

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
from rvsmjax.sweep._program.runners import stores_in_grid_order
from rvsmjax.sweep._tiles.loop import MOST_STEPS
from rvsmjax.sweep.chains import Algorithm, Done, run_chains
from rvsmjax.sweep.default import is_default, rvsm_by_sgd
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
    algorithm: Algorithm | None = None,
    done: Done | None = None,
) -> SweepResult:
    """Runs RVSM, or another algorithm, on every lane of ``grid`` to its limit, on all devices.

    RVSM is one call of one compiled program.

    A lane's result depends only on the lane's parameters, its seed and ``key``: it is bit-identical in any grid, on
    devices of the same kind. New values on axes of the same lengths do not recompile.

    After ``jax.distributed.initialize`` the sweep uses the devices of all processes. Each process makes the same call
    and gets the full result.

    Args:
      grid: the grid.
      key: root key; a lane draws from ``fold_in(key, seed)``. Default ``jax.random.key(0)``.
      tol: convergence threshold > 0 on the residual ‖∇f(w) + β(w − u)‖ (its tangential part on the sphere). In float32
        the residual cannot fall much below 3e-8/η; with the binary activation, where η is about 5/k, below 1e-8·k.
      max_steps: step cap of a lane, 1 to 2²⁸, rounded up to a multiple of 16.
      dtype: working precision; default is JAX's default float, float32 unless 64-bit types are enabled.
      devices: default all devices of all processes.
      progress: called as ``progress(lanes_done, lanes)`` from another thread during the run; counts the lanes of this
        process.
      engine: ``"xla"``, a loop in XLA; ``"cuda"``, a float32 kernel for NVIDIA GPUs that keeps w in registers;
        ``"pallas"``, a Pallas kernel for Triton; ``"interpret"``, the Pallas kernel as plain JAX, slow; ``"auto"``, the
        engine measured to be the fastest on devices of this name, or else ``"xla"``. XLA's loop runs lanes that a
        kernel does not support (d > 2048 for cuda, d > 512 for pallas, non-separable penalties), and replaces the
        kernel with a warning on devices that cannot run it. Engines agree to rounding.
      algorithm: function of a ``sweep.Lane`` that returns an optax chain, which then runs in place of RVSM with SGD, by
        ``run_lanes``: one program for each kind of penalty, d, ``normalize`` and each static value, compiled once for
        the same function. The numbers of the lane are traced. A chain of the same operations as RVSM with SGD runs as
        without ``algorithm``. With a ``Problem``, RVSM with SGD by default, from the axes ``penalty``, ``lam``,
        ``beta`` and ``learning_rate``. With ``run_lanes`` ``compile_seconds`` is 0, and compilation part of
        ``run_seconds``. ``engine`` and ``progress`` stay at their defaults, and all devices belong to this process.
      done: function of w and the chain's state that returns whether the lane has ended, in place of the comparison of
        the residual with ``tol``; asked every 16 steps; with ``algorithm`` only. The default residual of a chain with
        ``admm`` is max{‖w − u‖, ‖∇f(w) + ρz‖}. A gradient on a random sample has no small residual: give ``done``.

    Raises:
      TypeError: ``grid`` is not a ``Grid``, ``algorithm`` is not a function that returns a chain.
      ValueError: ``tol`` <= 0, ``max_steps`` out of range, an unknown precision or engine, a grid that does not fit in
        memory, custom axes that neither the algorithm nor the problem reads.

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
    devices = tuple(jax.devices() if devices is None else devices)
    if grid.problem is not None and algorithm is None:
        algorithm = rvsm_by_sgd
    if algorithm is not None:
        if not callable(algorithm):
            raise TypeError(f"algorithm must be a function of a sweep.Lane, got {_checks.show(algorithm)}")
        for name, value, default in (("engine", engine, "auto"), ("progress", progress, None)):
            if value != default:
                raise ValueError(f"{name} must be {default!r} with an algorithm, got {_checks.show(value)}")
    if algorithm is not None and (done is not None or not is_default(grid, algorithm, key, precision(dtype))):
        started = time.perf_counter()
        data, executed = run_chains(grid, algorithm, done, key, tol, max_steps, precision(dtype), devices)
        seconds = time.perf_counter() - started
        return SweepResult(grid, _blanked(data), float(tol), 0.0, seconds, int(executed), _named(devices))
    if algorithm is None and done is not None:
        raise ValueError(f"done must be None without an algorithm, got {_checks.show(done)}")
    plan = make_plan(grid, precision(dtype), devices, progress is not None, engine)
    check_size(grid, plan)
    inputs = arguments(grid, plan, key, tol, max_steps)

    started = time.perf_counter()
    misses = program.compile_plan.cache_info().misses
    run = program.compile_plan(plan, jax.random.key_impl(key))
    compiled = time.perf_counter()
    with reporting(progress, grid.size):
        outputs = _gathered(jax.block_until_ready(run(*_replicated(inputs, devices))))
    finished = time.perf_counter()
    return SweepResult(
        grid=grid,
        data=_assemble(grid, plan, outputs),
        tol=float(tol),
        compile_seconds=compiled - started if program.compile_plan.cache_info().misses > misses else 0.0,
        run_seconds=finished - compiled,
        steps_executed=int(sum((np.asarray(o["executed"], np.int64) * o["width"]).sum() for o in outputs)),
        devices=_named(devices),
    )


def _named(devices: Sequence[Any]) -> tuple[str, ...]:
    return tuple(f"{device.platform}: {device.device_kind}" for device in devices)


def _replicated(inputs: Any, devices: Sequence[Any]) -> Any:
    """Replicates the inputs over the devices of all processes; returns them unchanged if all devices are local."""
    if all(device.process_index == jax.process_index() for device in devices):
        return inputs
    replicated = NamedSharding(Mesh(np.asarray(devices), ("lanes",)), PartitionSpec())
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(np.shape(x), replicated, lambda index: np.asarray(x)[index]), inputs
    )


def _gathered(outputs: Any) -> Any:
    """Returns the full outputs in every process."""
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(outputs)):
        return outputs
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(outputs, tiled=True)


def _assemble(grid: Grid, plan: Plan, outputs: Any) -> dict[str, np.ndarray]:
    """Scatters the tiles into arrays of the grid's shape."""
    shape, axes, cells = tuple(grid.shape.values()), grid.values, cell_order(grid)
    data: dict[str, np.ndarray] = {}
    for block, out in zip(plan.blocks, outputs, strict=True):
        orders = np.asarray(out["orders"])[: len(block.dims)]
        in_grid_order = stores_in_grid_order(block)
        offsets = block.lane_offsets if in_grid_order else block.tile_offsets
        for name in (*Certificate._fields, "steps", "status"):
            by_device = np.asarray(out[name]).reshape(len(plan.devices), offsets[-1], 1 if in_grid_order else plan.tile)
            full = data.setdefault(name, np.empty(shape, by_device.dtype))
            for kind, lanes, first, end in zip(block.kinds, block.lanes, offsets, offsets[1:], strict=False):
                tiles = by_device[:, first:end].swapaxes(0, 1).reshape(-1)[:lanes]
                if in_grid_order:
                    values = tiles
                else:
                    by_rank = tiles.reshape(len(cells), len(kind.entries), -1)
                    values = np.empty((len(kind.entries), len(cells), plan.lengths[-1]), by_rank.dtype)
                    order = orders[block.dims.index(kind.d)]
                    values[:, cells[:, None], order] = by_rank.swapaxes(0, 1)
                values = values.reshape(len(kind.entries), *plan.lengths)
                index = axes.d.index(kind.d), ..., axes.normalize.index(kind.normalize), slice(None)
                full[(list(kind.entries), *index)] = values
    return _blanked(data)


def _blanked(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the data with NaN in the diverged lanes."""
    diverged = data["status"] == Status.DIVERGED
    if diverged.any():
        for values in data.values():
            if np.issubdtype(values.dtype, np.floating):
                values[diverged] = np.nan
    return data
