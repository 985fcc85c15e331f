"""Hyperparameters for a required sparsity: by gradient through the limit, and by grid search at equal cost.

The share of zeros is a count, with no useful derivative, so it is met by the threshold t rather than by a term in the
objective: λ is written as the one that gives threshold t at β and a, and t follows the required share of the training
seeds. What is left to choose, x = (log β, log a), moves along that constraint. With E the mean angle and q the required
quantile of |w̄| over all seeds, t = q there, so dt/dx = (∂q/∂x)/(1 − ∂q/∂t) and dE/dx = ∂E/∂x + (∂E/∂t)·dt/dx. This is
exact where prox is continuous; where it jumps, as for l0, components enter or leave the support without a derivative.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import rvsmjax as rv
from rvsmjax.geometry import unit
from rvsmjax.theory import largest_learning_rate

BOX = {"beta": (1e-3, 1.0), "a": (1e-2, 1e2)}
"""Where both methods look."""

START = {"beta": 4e-3, "a": 1.0}
"""The paper's values, where the descent starts."""

CALIBRATION = 6
"""Solves that bring the training seeds to the required share."""

FEASIBLE = 5e-3
"""How far the share of the training seeds may be from the required one."""

ADAM_RATE, ADAM_EPS = 0.2, 1e-3
"""In log β and log a. Slopes under ``ADAM_EPS``, in radians, are left small: there the supports' own moves, which the
slope does not see, are as large, and Adam would make full steps of them."""


class Draws(NamedTuple):
    """Starts and true weights, of shape (seeds, d)."""

    w0: Array
    w_star: Array


class Choice(NamedTuple):
    """Hyperparameters found, and what they cost.

    Attributes:
      beta: β.
      a: shape of transformed l1; 1 where there is none.
      t: threshold on |w̄|.
      share: zeros of ū among the training seeds' components.
      theta: mean of θ(ū,w*) over the training seeds.
      solves: how often all training seeds were run to their limits.
    """

    beta: float
    a: float
    t: float
    share: float
    theta: float
    solves: int

    def lam(self, kind: str) -> float:
        """Returns λ."""
        return self.beta * float(step_at(kind, jnp.asarray(self.t), jnp.asarray(self.a)))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One penalty on one set of training seeds with one required share of zeros."""

    kind: str
    k: int
    sparsity: float
    draws: Draws
    max_steps: int = 20_000

    @property
    def shaped(self) -> bool:
        """Whether there is an a to choose."""
        return self.kind == "tl1"

    def limits(self, beta: float, a: float, t: float, draws: Draws | None = None) -> Any:
        """Returns θ(ū,w*), ū and w̄ of all seeds."""
        numbers = {"beta": jnp.asarray(beta), "a": jnp.asarray(a), "t": jnp.asarray(t)}
        return _limits(self.kind, self.max_steps, self.k, numbers, draws or self.draws)

    def first_threshold(self) -> tuple[float, float]:
        """Returns t and d share/d log t at λ → 0, where w̄ is w*."""
        size = np.sort(np.abs(np.asarray(self.draws.w_star)).ravel())
        t, width = float(np.quantile(size, self.sparsity)), 0.2
        below = np.searchsorted(size, t * np.exp([-width, width])) / size.size
        return t, max(float(below[1] - below[0]) / (2 * width), 0.05)

    def calibrated(self, beta: float, a: float, t: float) -> Choice:
        """Returns the choice at which the training seeds have the required share, as near as the solves bring it.

        By Newton's method until t lies between two that were tried, then by linear interpolation in log t.
        """
        _, density = self.first_threshold()
        tried: list[Choice] = []
        for _ in range(CALIBRATION):
            theta, u, _ = self.limits(beta, a, t)
            share = float(jnp.mean(u == 0))
            tried.append(Choice(beta, a, t, share, float(jnp.mean(theta)), CALIBRATION))
            low = max((c for c in tried if c.share < self.sparsity), key=lambda c: c.t, default=None)
            high = min((c for c in tried if c.share >= self.sparsity), key=lambda c: c.t, default=None)
            if low and high and low.t < high.t:
                part = (self.sparsity - low.share) / (high.share - low.share)
                t = low.t * (high.t / low.t) ** min(max(part, 0.1), 0.9)
            else:
                t *= math.exp((self.sparsity - share) / density)
        return min(tried, key=lambda c: abs(c.share - self.sparsity))


def draw(key: Array, seeds: range, d: int, truth_zeros: float) -> Draws:
    """Returns w⁰ uniform on the sphere and w* uniform on it too, or on that of d − round(truth_zeros·d) coordinates."""

    def one(seed: Array) -> tuple[Array, Array]:
        own = jax.random.fold_in(key, seed)
        return jax.random.normal(own, (2, d)), jax.random.uniform(jax.random.fold_in(own, 0), (d,))

    normal, order = jax.jit(jax.vmap(one))(jnp.asarray(seeds, jnp.uint32))
    kept = np.argsort(np.argsort(order, 1), 1) >= round(truth_zeros * d)
    return Draws(unit(normal[:, 0]), unit(normal[:, 1] * kept))


def step_at(kind: str, t: Array, a: Array) -> Array:
    """Returns the step s = λ/β at which the penalty's threshold is t."""
    if kind == "l1":
        return t
    if kind == "l0":
        return t**2 / 2
    return jnp.where(2 * t <= a, t * a / (a + 1), (t + a / 2) ** 2 / (2 * (a + 1)))


def best_angle(w_star: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the least angle with w* that a vector with so many nonzero components can have, row by row.

    On a given support nothing is nearer in angle than w* itself, restricted; the best support holds the largest.
    """
    squares = np.cumsum(np.sort(w_star.astype(np.float64) ** 2, 1)[:, ::-1], 1)
    inside = np.concatenate([np.zeros((len(squares), 1)), squares], 1)[np.arange(len(squares)), counts]
    return np.arctan2(np.sqrt(np.maximum(squares[:, -1] - inside, 0)), np.sqrt(inside))


def measure(cell: Cell, choice: Choice, draws: Draws) -> dict[str, np.ndarray]:
    """Returns θ(ū,w*), the zeros of ū, and the least angle possible with so many, for seeds that were not tuned on."""
    size, count = len(cell.draws.w0), len(draws.w0)
    theta, zeros = [], []
    for begin in range(0, count, size):
        # In batches of the compiled size, the last one filled up with seeds from the first.
        rows = np.arange(begin, begin + size) % count
        angles, u, _ = cell.limits(choice.beta, choice.a, choice.t, jax.tree.map(lambda x, rows=rows: x[rows], draws))
        theta.append(np.asarray(angles))
        zeros.append(np.asarray(jnp.sum(u == 0, 1)))
    w_star = np.asarray(draws.w_star)
    angle, lost = np.concatenate(theta)[:count], np.concatenate(zeros)[:count]
    return {"theta": angle, "zeros": lost, "best": best_angle(w_star, w_star.shape[1] - lost)}


def compile_for(cell: Cell) -> None:
    """Compiles what tuning this cell runs, if that has not been done."""
    cell.limits(*START.values(), cell.first_threshold()[0])
    descend(cell, 1)


def descend(cell: Cell, iterations: int) -> tuple[Choice, list[dict[str, float]]]:
    """Returns what Adam finds in log β and log a along the constraint, and its path."""
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
        seen = {"t": t, "share": float(share), "theta": float(theta)}
        path.append(row | seen | {f"slope_{name}": float(s) for name, s in zip(names, slopes, strict=True)})
        updates, state = adam.update(slopes, state)
        x = jnp.clip(optax.apply_updates(x, updates), low, high)
        t *= math.exp((cell.sparsity - float(share)) / density)
    found = START | dict(zip(names, np.exp(np.asarray(x)).tolist(), strict=True))
    choice = cell.calibrated(found["beta"], found["a"], t)
    return choice._replace(solves=iterations + CALIBRATION), path


def search(cell: Cell, solves: int) -> Choice:
    """Returns the best of a logarithmic grid over the box that takes at most so many solves."""
    room = max(solves // CALIBRATION, 1)
    shapes = math.isqrt(room) if cell.shaped else 1
    betas, a_values = _spaced("beta", room // shapes), _spaced("a", shapes) if cell.shaped else [START["a"]]
    t, _ = cell.first_threshold()
    tried = [cell.calibrated(beta, a, t) for beta in betas for a in a_values]
    feasible = [choice for choice in tried if abs(choice.share - cell.sparsity) <= FEASIBLE]
    best = min(feasible or tried, key=lambda choice: choice.theta)
    return best._replace(solves=len(tried) * CALIBRATION)


def _spaced(name: str, count: int) -> list[float]:
    low, high = BOX[name]
    return np.geomspace(low, high, count).tolist() if count > 1 else [math.sqrt(low * high)]


@functools.partial(jax.jit, static_argnames=("kind", "max_steps"))
def _limits(kind: str, max_steps: int, k: int, numbers: Any, draws: Draws) -> Any:
    beta, a, t = numbers["beta"], numbers["a"], numbers["t"]
    penalty = {"l1": rv.L1, "l0": rv.L0, "tl1": lambda: rv.TransformedL1(a)}[kind]()
    lam = beta * step_at(kind, t, a)
    chain = optax.chain(rv.rvsm(penalty, lam, beta), optax.sgd(largest_learning_rate(beta)), rv.unit_sphere())
    tol = 1e-12 if draws.w0.dtype == jnp.float64 else 1e-6

    def one(w0: Array, w_star: Array) -> tuple[Array, Array, Array]:
        end = rv.solve(rv.NoOverlapReLU(k), chain, w0, w_star, tol=tol, max_steps=max_steps, check_every=10)
        return rv.angle(end.u, w_star), end.u, end.w

    return jax.vmap(one)(*draws)


@functools.partial(jax.jit, static_argnames=("kind", "max_steps"))
def _slopes(kind: str, max_steps: int, k: int, x: Array, t: Array, sparsity: float, draws: Draws) -> Any:
    """Returns dE/dx along the constraint, and the mean angle and the share of zeros."""

    def outcome(x: Array, t: Array) -> Any:
        numbers = {"beta": jnp.exp(x[0]), "a": jnp.exp(x[1]) if len(x) > 1 else jnp.ones_like(t), "t": t}
        theta, u, w = _limits(kind, max_steps, k, numbers, draws)
        mean = jnp.mean(theta)
        return jnp.stack([mean, jnp.quantile(jnp.abs(w), sparsity)]), (mean, jnp.mean(u == 0))

    (by_x, by_t), seen = jax.jacrev(outcome, (0, 1), has_aux=True)(x, t)
    follow = by_x[1] / jnp.maximum(1 - by_t[1], 0.1)
    return by_x[0] + by_t[0] * follow, seen
