"""Runs of a tile of lanes to their limits."""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

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
LEGS = 5
"""Legs of a stretch of steps, each as long as those before it together."""
Carry = tuple[Array, Array, Array]


class Leg(NamedTuple):
    """Steps after which lanes at rest leave their tiles to others.

    Attributes:
      steps: number of steps.
      round: 0 up to the step cap, then the round of further steps.
      last: whether the round ends with it.
    """

    steps: int
    round: int
    last: bool


def legs(rounds: tuple[int, ...]) -> list[Leg]:
    """Returns the legs of rounds of so many steps each."""
    parts = []
    for number, steps in enumerate(rounds):
        ends = {steps} | {(steps >> i) // CHECK_EVERY * CHECK_EVERY for i in range(1, LEGS)}
        parts += [Leg(b - a, number, b == steps) for a, b in itertools.pairwise(sorted(ends | {0}))]
    return parts


def run_leg(subject: Subject, p: Parameters, w: Array, steps: ArrayLike, largest: ArrayLike) -> tuple[Array, Array]:
    """Continues from the iterates w, at each lane's η or at the largest that the theorem allows there.

    Limits do not depend on η. Returns what ``run_to_limits`` does.
    """
    rates = jax.vmap(functools.partial(largest_rate, subject))(p, w)
    rates = jnp.where(largest, rates, p.learning_rate)
    return run_to_limits(subject, p._replace(learning_rate=rates), w, steps)


def run_to_limits(subject: Subject, p: Parameters, start: Array, max_steps: ArrayLike) -> tuple[Array, Array]:
    """Returns the limits of a tile of lanes, of shape (lanes, d), and the mask of lanes at rest, of shape (lanes,).

    A lane stopped by the cap returns its last iterate.

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
    w, _, running = jax.lax.while_loop(unfinished, body, begin)
    return w.T, ~running
