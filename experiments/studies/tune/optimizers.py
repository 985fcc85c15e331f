"""Choice of β and a at a required share of zeros: gradient descent through the limit, and grid search.

The free variables are x = (log β, log a), moved along the constraint. With E the mean angle and q the required quantile
of |w̄| over all seeds, the constraint is t = q, so dt/dx = (∂q/∂x)/(1 − ∂q/∂t) and dE/dx = ∂E/∂x + (∂E/∂t)·dt/dx. This
is exact if the prox is continuous; if it jumps, as for l0, changes of the support have no derivative.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from .problem import CALIBRATION, START, Cell, Choice, Draws, limits_of

BOX = {"beta": (1e-3, 1.0), "a": (1e-2, 1e2)}
"""Search region of both methods."""

FEASIBLE = 5e-3
"""Largest deviation of the share of zeros of the training seeds from the required share."""

ADAM_RATE, ADAM_EPS = 0.2, 1e-3
"""In log β and log a. Slopes below ``ADAM_EPS`` radians stay small: changes of the support, which the slope does not
include, are as large, and Adam would turn them into full steps."""


def compile_for(cell: Cell) -> None:
    """Compiles the programs that tune this cell."""
    cell.limits(START["beta"], START["a"], cell.first_threshold()[0])
    descend(cell, 1)


def descend(cell: Cell, iterations: int) -> tuple[Choice, list[dict[str, float]]]:
    """Returns the result of Adam in log β and log a along the constraint, and its path."""
    names = ["beta", "a"] if cell.shaped else ["beta"]
    x = jnp.log(jnp.asarray([START[name] for name in names]))
    low, high = (jnp.log(jnp.asarray([BOX[name][end] for name in names])) for end in (0, 1))
    (t, density), adam = cell.first_threshold(), optax.adam(ADAM_RATE, eps=ADAM_EPS)
    state, path = adam.init(x), []
    for _ in range(iterations):
        slopes, (theta, share) = _slopes(
            cell.kind, cell.max_steps, cell.k, x, jnp.asarray(t), cell.sparsity, cell.draws
        )
        row = dict(zip(names, np.exp(np.asarray(x)).tolist(), strict=True))
        values = {"t": t, "share": float(share), "theta": float(theta)}
        path.append(row | values | {f"slope_{name}": float(s) for name, s in zip(names, slopes, strict=True)})
        updates, state = adam.update(slopes, state)
        x = jnp.clip(optax.apply_updates(x, updates), low, high)
        t *= math.exp((cell.sparsity - float(share)) / density)
    tuned = START | dict(zip(names, np.exp(np.asarray(x)).tolist(), strict=True))
    choice = cell.calibrated(tuned["beta"], tuned["a"], t)
    return choice._replace(solves=iterations + CALIBRATION), path


def search(cell: Cell, solves: int) -> Choice:
    """Returns the best point of a logarithmic grid over ``BOX`` with at most ``solves`` solves."""
    points = max(solves // CALIBRATION, 1)
    shapes = math.isqrt(points) if cell.shaped else 1
    betas, a_values = _spaced("beta", points // shapes), _spaced("a", shapes) if cell.shaped else [START["a"]]
    t, _ = cell.first_threshold()
    tried = [cell.calibrated(beta, a, t) for beta in betas for a in a_values]
    feasible = [choice for choice in tried if abs(choice.share - cell.sparsity) <= FEASIBLE]
    best = min(feasible or tried, key=lambda choice: choice.theta)
    return best._replace(solves=len(tried) * CALIBRATION)


def _spaced(name: str, count: int) -> list[float]:
    low, high = BOX[name]
    return np.geomspace(low, high, count).tolist() if count > 1 else [math.sqrt(low * high)]


@functools.partial(jax.jit, static_argnames=("kind", "max_steps"))
def _slopes(
    kind: str, max_steps: int, k: int, x: Array, t: Array, sparsity: float, draws: Draws
) -> tuple[Array, tuple[Array, Array]]:
    """Returns dE/dx along the constraint, the mean angle and the share of zeros."""

    def outcome(x: Array, t: Array) -> tuple[Array, tuple[Array, Array]]:
        numbers = {"beta": jnp.exp(x[0]), "a": jnp.exp(x[1]) if len(x) > 1 else jnp.ones_like(t), "t": t}
        theta, u, w, _ = limits_of(kind, max_steps, k, numbers, draws)
        mean = jnp.mean(theta)
        return jnp.stack([mean, jnp.quantile(jnp.abs(w), sparsity)]), (mean, jnp.mean(u == 0))

    (by_x, by_t), values = jax.jacrev(outcome, (0, 1), has_aux=True)(x, t)
    dt_dx = by_x[1] / jnp.maximum(1 - by_t[1], 0.1)
    return by_x[0] + by_t[0] * dt_dx, values
