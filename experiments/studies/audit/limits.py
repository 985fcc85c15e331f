"""Lanes of the audit run to their limits, a tile at a time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax.sweep import Iteration, Tile

from .claim import Parameters
from .claims.shared import SETTLED, SHARE
from .states import hard_step
from .subjects import Subject

CHECK_EVERY = 20
Carry = tuple[Array, Array, Array]


def settle(subject: Subject, p: Parameters, start: Array, max_steps: Array | int) -> Array:
    """Returns the limits of a tile of lanes, of shape (lanes, d); a lane that does not get there stays where it was.

    Args:
      subject: the kind of run.
      p: parameters, every leaf with a leading axis of lanes.
      start: w⁰, of shape (lanes, d).
      max_steps: step cap.
    """
    problem = subject.problem(p.k)
    if subject.hard:
        tolerance: ArrayLike = 1e-8
        step = jax.vmap(lambda k, p, w: hard_step(subject.problem(k), p, w)[0], (0, 0, 1), 1)

        def some(w: Array) -> Array:
            return jax.lax.fori_loop(0, CHECK_EVERY, lambda _, w: step(p.k, p, w), w)

        def off(w: Array) -> Array:
            return jnp.max(jnp.abs(w - p.w_star.T), 0)

    else:
        # A tenth of what counts as a limit, if rounding lets it.
        tolerance = jnp.maximum(jnp.minimum(SETTLED, SHARE * p.beta) / 10, 1e-15)
        tile = Tile(problem, p.penalty, p.lam, p.beta, p.learning_rate, p.w_star.T, subject.normalize)
        iteration = Iteration(tile)

        def some(w: Array) -> Array:
            return tile.scaled(iteration.advance(w, jnp.ones(w.shape[1], bool), CHECK_EVERY))

        off = iteration.residual

    def body(carry: Carry) -> Carry:
        w, t, running = carry
        new = some(w)
        return jnp.where(running, new, w), t + CHECK_EVERY, running & (off(new) > tolerance)

    def unfinished(carry: Carry) -> Array:
        _, t, running = carry
        return jnp.any(running) & (t < max_steps)

    begin = start.T, jnp.zeros((), jnp.int32), jnp.ones(len(start), bool)
    return jax.lax.while_loop(unfinished, body, begin)[0].T
