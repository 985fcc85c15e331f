"""XLA's loop over a tile, and the convergence check that the kernels share with it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rvsmjax.solve import Status
from rvsmjax.sweep._tiles.step import Iteration, Tile

CHECK_EVERY = 16
"""Steps between convergence checks; a lane's step count is a multiple of it."""
NO_LIMIT = 2**30
"""Idle budget that never stops a tile."""
MOST_STEPS = 2**28
"""Largest step cap: ``queue`` packs steps and status of a lane into one word."""


def running(steps: Array, status: Array, max_steps: Array) -> Array:
    """Returns the mask of running lanes, which carry ``Status.CAP`` until they converge or diverge."""
    return (status == Status.CAP) & (steps < max_steps)


def check(
    iteration: Iteration, w: Array, active: Array, steps: Array, status: Array, tol: Array
) -> tuple[Array, Array]:
    """Returns the updated steps and status of a tile whose ``active`` lanes have advanced to w."""
    residual = iteration.residual(w)
    outcome = jnp.where(residual <= tol, Status.CONVERGED, Status.CAP)
    status = jnp.where(active, jnp.where(jnp.isfinite(residual), outcome, Status.DIVERGED), status).astype(status.dtype)
    return steps + CHECK_EVERY * active, status


def run(
    tile: Tile, w: Array, steps: Array, status: Array, budget: Array | int, tol: Array, max_steps: Array
) -> tuple[Array, Array, Array, Array]:
    """Runs a tile until all lanes have finished, or finished lanes have idled for ``budget`` lane-steps in total.

    Returns:
      w, the number of steps executed, steps and status of each lane.
    """
    iteration = Iteration(tile)

    def count_running(steps: Array, status: Array) -> Array:
        return jnp.sum(running(steps, status, max_steps), dtype=jnp.int32)

    def body(carry: Any) -> Any:
        w, executed, steps, status, idle, _ = carry
        active = running(steps, status, max_steps)
        w = iteration.advance(w, active, CHECK_EVERY)
        steps, status = check(iteration, w, active, steps, status, tol)
        left = count_running(steps, status)
        idle = jnp.minimum(idle + CHECK_EVERY * (len(steps) - left), NO_LIMIT)
        return w, executed + CHECK_EVERY, steps, status, idle, left

    def unfinished(carry: Any) -> Array:
        *_, idle, left = carry
        return (left > 0) & ((idle < budget) | (budget == NO_LIMIT))

    zero = jnp.zeros((), jnp.int32)
    # Scalars unused after the loop come last: XLA's Triton backend crashes on one that precedes a vector.
    start = (w, zero, steps, status, zero, count_running(steps, status))
    w, executed, steps, status, *_ = jax.lax.while_loop(unfinished, body, start)
    return w, executed, steps, status
