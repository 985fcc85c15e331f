"""Runs of a tile of lanes to their limits."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax.sweep import Iteration, Tile

from .claim import Parameters
from .claims.shared import MAX_RESIDUAL, MAX_SHARE
from .states import hard_step
from .subjects import Subject, largest_rate

CHECK_EVERY = 20
Carry = tuple[Array, Array, Array]


def run_on(subject: Subject, p: Parameters, w: Array, max_steps: Array | int) -> Array:
    """Continues from the iterates w at the largest η that the theorem allows there: limits do not depend on η."""
    rate = jax.vmap(functools.partial(largest_rate, subject))(p, w)
    return run_to_limits(subject, p._replace(learning_rate=rate), w, max_steps)


def run_to_limits(subject: Subject, p: Parameters, start: Array, max_steps: Array | int) -> Array:
    """Returns the limits of a tile of lanes, of shape (lanes, d); a lane stopped by the cap returns its last iterate.

    Args:
      subject: kind of run.
      p: parameters; every leaf has a leading lane axis.
      start: w⁰, of shape (lanes, d).
      max_steps: step cap.
    """
    problem = subject.problem(p.k)
    if subject.hard:
        tolerance: ArrayLike = 1e-8
        step = jax.vmap(lambda k, p, w: hard_step(subject.problem(k), p, w)[0], (0, 0, 1), 1)

        def advance(w: Array) -> Array:
            return jax.lax.fori_loop(0, CHECK_EVERY, lambda _, w: step(p.k, p, w), w)

        def residual(w: Array) -> Array:
            return jnp.max(jnp.abs(w - p.w_star.T), 0)

    else:
        # A tenth of the residual below which a point counts as a limit, but not below rounding.
        tolerance = jnp.maximum(jnp.minimum(MAX_RESIDUAL, MAX_SHARE * p.beta) / 10, 1e-15)
        tile = Tile(problem, p.penalty, p.lam, p.beta, p.learning_rate, p.w_star.T, subject.normalize)
        iteration = Iteration(tile)

        def advance(w: Array) -> Array:
            return tile.scaled(iteration.advance(w, jnp.ones(w.shape[1], bool), CHECK_EVERY))

        residual = iteration.residual

    def body(carry: Carry) -> Carry:
        w, t, running = carry
        new = advance(w)
        return jnp.where(running, new, w), t + CHECK_EVERY, running & (residual(new) > tolerance)

    def unfinished(carry: Carry) -> Array:
        _, t, running = carry
        return jnp.any(running) & (t < max_steps)

    begin = start.T, jnp.zeros((), jnp.int32), jnp.ones(len(start), bool)
    return jax.lax.while_loop(unfinished, body, begin)[0].T
