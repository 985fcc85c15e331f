"""Arguments of a sweep's program, and the memory that its run needs."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import Array

from rvsmjax._programs import free_memory
from rvsmjax.sweep._program.plan import Plan
from rvsmjax.sweep.grid import Grid


def arguments(grid: Grid, plan: Plan, key: Array, tol: float, max_steps: int) -> tuple[Any, ...]:
    """Returns the arguments of the compiled program: the values of the grid as NumPy arrays.

    Raises:
      ValueError: a value that underflows or overflows in the working precision.
    """
    scalar = np.dtype(plan.dtype).type
    values = grid.values
    for name, candidates in (("beta", values.beta), ("learning_rate", values.learning_rate or ()), ("tol", (tol,))):
        for value in candidates:
            if not 0 < scalar(value) < np.inf:
                raise ValueError(f"{name} must be a normal number in {plan.dtype}, got {value!r}")
    axes = {name: np.asarray(getattr(values, name), scalar) for name in ("k", "lam", "beta")}
    axes["learning_rate"] = np.asarray([0] if values.learning_rate is None else values.learning_rate, scalar)
    axes["seed"] = np.asarray(values.seeds, np.uint32)
    leaves = []
    for kind in plan.kinds:
        columns = zip(*(jax.tree.leaves(values.penalty[i]) for i in kind.entries), strict=True)
        leaves.append([np.asarray(column, scalar) for column in columns])
    seed_tiles = -(-plan.lengths[-1] // plan.tile)
    tile_counts = [np.asarray([*block.tile_counts, seed_tiles], np.int32) for block in plan.blocks]
    return (
        axes,
        leaves,
        cell_order(grid),
        tile_counts,
        np.asarray(jax.random.key_data(key)),
        scalar(tol),
        np.int32(max_steps),
    )


def cell_order(grid: Grid) -> np.ndarray:
    """Returns the cells (k, λ, β, η) of a grid, slowest first, as indices in the order of ``INNER``.

    Cells are sorted by ``OneLayerProblem.pace``, then by descending λ.
    """
    axes = grid.values
    k, beta = np.meshgrid(axes.k, axes.beta, indexing="ij")
    problem = grid.factory(k)
    largest = np.asarray(problem.largest_learning_rate(beta), float)[:, None, :, None]
    rates = largest if axes.learning_rate is None else np.asarray(axes.learning_rate, float)[None, None, None, :]
    pace = np.asarray(grid.factory(k[:, None, :, None]).pace(rates), float)
    shape = len(axes.k), len(axes.lam), len(axes.beta), rates.shape[-1]
    pace, lam = (np.broadcast_to(x, shape).ravel() for x in (pace, np.asarray(axes.lam)[:, None, None]))
    return np.lexsort((-lam, pace)).astype(np.int32)


def seed_bytes(plan: Plan) -> int:
    """Returns the memory per seed in bytes.

    Each lane holds its result twice (as computed and as assembled), its w, steps and status; each device holds the
    draws.
    """
    itemsize = np.dtype(plan.dtype).itemsize
    local_devices = sum(device.process_index == jax.process_index() for device in plan.devices)
    total = 0
    for block in plan.blocks:
        rows, lanes = block.kinds[0].rows, sum(block.lanes) // plan.lengths[-1]
        total += lanes * (2 * (11 * itemsize + 4 + 4 + 1) + rows * itemsize + 28)
        total += local_devices * 2 * rows * itemsize
    return total


def check_size(grid: Grid, plan: Plan) -> None:
    """Raises ``ValueError`` if the run does not fit in memory or lane indices overflow int32."""
    cells, seeds = grid.size // grid.shape["seed"], grid.shape["seed"]
    per_seed, free = seed_bytes(plan), free_memory(plan.devices)
    if per_seed * seeds > free:
        raise ValueError(
            f"grid must fit in memory: {grid.size:,} lanes need {per_seed * seeds / 1e9:,.1f} GB, "
            f"{free / 1e9:,.1f} GB are free; with its {cells:,} cells at most {free // per_seed:,} seeds fit"
        )
    most = max(max(block.lanes) for block in plan.blocks)
    if most > 2**31 - plan.tile:
        raise ValueError(f"grid must have fewer than 2**31 lanes for each d and kind of penalty, got {most:,}")
