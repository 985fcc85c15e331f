"""XLA's loop over a tile, and the look at the residual between steps that the kernels share with it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rvsmjax.solve import Status
from rvsmjax.sweep._tiles.step import Iteration, Tile

CHECK_EVERY = 16
"""Steps between looks at the residual: a lane's count of steps is a multiple of it."""
NO_LIMIT = 2**30
MOST_STEPS = 2**28
"""Most that a step cap may be: steps and status of a lane share a word in ``queue``."""


def running(steps: Array, status: Array, max_steps: Array) -> Array:
    """Tells which lanes go on. Until it ends in another way a lane is one that the cap would end."""
    return (status == Status.CAP) & (steps < max_steps)


def judge(iteration: Iteration, w: Array, going: Array, steps: Array, status: Array, tol: Array) -> tuple[Array, Array]:
    """Returns the steps and the statuses of a tile whose lanes, those that were running, have gone on to w."""
    res = iteration.residual(w)
    ended = jnp.where(res <= tol, Status.CONVERGED, Status.CAP)
    status = jnp.where(going, jnp.where(jnp.isfinite(res), ended, Status.DIVERGED), status).astype(status.dtype)
    return steps + CHECK_EVERY * going, status


def run(
    tile: Tile, w: Array, steps: Array, status: Array, budget: Array | int, tol: Array, max_steps: Array
) -> tuple[Array, Array, Array, Array]:
    """Runs a tile until its lanes have ended, or until those that have, held still, have cost ``budget`` lane-steps.

    Returns:
      w, the steps run, the steps of each lane, the status of each lane.
    """
    iteration = Iteration(tile)

    def live(steps: Array, status: Array) -> Array:
        return jnp.sum(running(steps, status, max_steps), dtype=jnp.int32)

    def body(carry: Any) -> Any:
        w, t, steps, status, idle, _ = carry
        going = running(steps, status, max_steps)
        w = iteration.advance(w, going, CHECK_EVERY)
        steps, status = judge(iteration, w, going, steps, status, tol)
        left = live(steps, status)
        idle = jnp.minimum(idle + CHECK_EVERY * (len(steps) - left), NO_LIMIT)
        return w, t + CHECK_EVERY, steps, status, idle, left

    def unfinished(carry: Any) -> Array:
        *_, idle, left = carry
        return (left > 0) & ((idle < budget) | (budget == NO_LIMIT))

    none = jnp.zeros((), jnp.int32)
    # Scalars that nobody reads after the loop come last: XLA's Triton crashes on one that stands before a vector.
    begin = (w, none, steps, status, none, live(steps, status))
    w, executed, steps, status, *_ = jax.lax.while_loop(unfinished, body, begin)
    return w, executed, steps, status
