"""What the program of a sweep is called with, and whether its run fits in memory."""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np
from jax import Array

from rvsmjax.sweep._program.plan import Plan
from rvsmjax.sweep.grid import Grid


def arguments(grid: Grid, plan: Plan, key: Array, tol: float, max_steps: int) -> tuple[Any, ...]:
    """Returns what the compiled program of ``plan`` takes: every number of the grid, as NumPy arrays.

    Raises:
      ValueError: a number that the working precision does not hold.
    """
    number = np.dtype(plan.dtype).type
    values = grid.axes
    for name, given in (("beta", values.beta), ("learning_rate", values.learning_rate or ()), ("tol", (tol,))):
        for value in given:
            if not 0 < number(value) < np.inf:
                raise ValueError(f"{name} must be a normal number in {plan.dtype}, got {value!r}")
    axes = {name: np.asarray(getattr(values, name), number) for name in ("k", "lam", "beta")}
    axes["learning_rate"] = np.asarray([0] if values.learning_rate is None else values.learning_rate, number)
    axes["seed"] = np.asarray(values.seeds, np.uint32)
    leaves = []
    for kind in plan.kinds:
        columns = zip(*(jax.tree.leaves(values.penalty[i]) for i in kind.entries), strict=True)
        leaves.append([np.asarray(column, number) for column in columns])
    counts = [np.asarray([*block.rounds, -(-plan.lengths[-1] // plan.tile)], np.int32) for block in plan.blocks]
    return (
        axes,
        leaves,
        cell_order(grid),
        counts,
        np.asarray(jax.random.key_data(key)),
        number(tol),
        np.int32(max_steps),
    )


def cell_order(grid: Grid) -> np.ndarray:
    """Returns the cells (k, λ, β, η) of a grid, numbered in the order of ``INNER``, slow ones first.

    Of cells of the same pace (``OneLayerProblem.pace``) those with a large λ are slower.
    """
    axes = grid.axes
    k, beta = np.meshgrid(axes.k, axes.beta, indexing="ij")
    problem = grid.problem(k)
    largest = np.asarray(problem.largest_learning_rate(beta), float)[:, None, :, None]
    rates = largest if axes.learning_rate is None else np.asarray(axes.learning_rate, float)[None, None, None, :]
    pace = np.asarray(grid.problem(k[:, None, :, None]).pace(rates), float)
    shape = len(axes.k), len(axes.lam), len(axes.beta), rates.shape[-1]
    pace, lam = (np.broadcast_to(x, shape).ravel() for x in (pace, np.asarray(axes.lam)[:, None, None]))
    return np.lexsort((-lam, pace)).astype(np.int32)


def seed_bytes(plan: Plan) -> int:
    """Returns the memory that one seed takes, in bytes.

    Each lane has its result, once as computed and once as assembled, its w and how it ended; on each device there are
    the draws.
    """
    number = np.dtype(plan.dtype).itemsize
    own = sum(device.process_index == jax.process_index() for device in plan.devices)
    total = 0
    for block in plan.blocks:
        rows, lanes = block.kinds[0].rows, sum(block.lanes) // plan.lengths[-1]
        total += lanes * (2 * (11 * number + 4 + 4 + 1) + rows * number + 28)
        total += own * 2 * rows * number
    return total


def check_size(grid: Grid, plan: Plan) -> None:
    """Raises ``ValueError`` where a run does not fit in memory, or where lanes cannot be numbered."""
    cells, seeds = grid.size // grid.shape["seed"], grid.shape["seed"]
    per_seed, free = seed_bytes(plan), _free_memory(plan.devices)
    if per_seed * seeds > free:
        raise ValueError(
            f"grid must fit in memory: {grid.size:,} lanes need {per_seed * seeds / 1e9:,.1f} GB, "
            f"{free / 1e9:,.1f} GB are free; with its {cells:,} cells at most {free // per_seed:,} seeds fit"
        )
    most = max(max(block.lanes) for block in plan.blocks)
    if most > 2**31 - plan.tile:
        raise ValueError(f"grid must have under 2**31 lanes of one kind of penalty and one d, got {most:,}")


def _free_memory(devices: tuple[Any, ...]) -> int:
    """Free bytes on the host, or on the devices together where those have less."""
    try:
        with open("/proc/meminfo") as lines:
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        known = hasattr(os, "sysconf")
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 2**62
    own = [d for d in devices if d.platform != "cpu" and d.process_index == jax.process_index()]
    stats = [device.memory_stats() or {} for device in own]
    if stats and all("bytes_limit" in s for s in stats):
        free = min(free, sum(s["bytes_limit"] - s.get("bytes_in_use", 0) for s in stats))
    return free
