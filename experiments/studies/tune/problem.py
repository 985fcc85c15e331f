"""Random problems with common hyperparameters, run to limits with a required share of zeros.

The share of zeros has no useful derivative, so λ is parametrised by the threshold t of the penalty at β and a, and t is
calibrated to the required share on the training seeds.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import rvsmjax as rv
from rvsmjax.certificate import largest_learning_rate

from ...penalties.registry import find

START = {"beta": 4e-3, "a": 1.0}
"""The paper's values, at which the descent starts."""
WIDE = 30.0
"""Largest difference between the logarithms of a threshold and of its step."""
CALIBRATION = 6
"""Solves per calibration to the required share."""


class Draws(NamedTuple):
    """Starts and true weights, of shape (seeds, d)."""

    w0: Array
    w_star: Array


Limits = tuple[Array, Array, Array, Array]


class Choice(NamedTuple):
    """Chosen hyperparameters and their cost.

    Attributes:
      beta: β.
      a: shape of transformed l1; 1 for other penalties.
      t: threshold on |w̄|.
      share: share of zeros in ū over the training seeds.
      theta: mean of θ(ū,w*) over the training seeds.
      solves: number of runs of all training seeds to their limits.
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
    """A penalty, training seeds and a required share of zeros."""

    kind: str
    k: int
    sparsity: float
    draws: Draws
    max_steps: int = 20_000

    @property
    def shaped(self) -> bool:
        """Whether the penalty has a parameter a."""
        return bool(find(self.kind).parameter)

    def limits(self, beta: float, a: float, t: float, draws: Draws | None = None) -> Limits:
        """Returns θ(ū,w*), ū, w̄ and the mask of converged runs of all seeds."""
        numbers = {"beta": jnp.asarray(beta), "a": jnp.asarray(a), "t": jnp.asarray(t)}
        return limits_of(self.kind, self.max_steps, self.k, numbers, draws or self.draws)

    def first_threshold(self) -> tuple[float, float]:
        """Returns t and d share/d log t at λ → 0, where w̄ = w*."""
        size = np.sort(np.abs(np.asarray(self.draws.w_star)).ravel())
        t, width = float(np.quantile(size, self.sparsity)), 0.2
        below = np.searchsorted(size, t * np.exp([-width, width])) / size.size
        return t, max(float(below[1] - below[0]) / (2 * width), 0.05)

    def calibrated(self, beta: float, a: float, t: float) -> Choice:
        """Returns the choice closest to the required share on the training seeds.

        Newton's method until t is bracketed, then linear interpolation in log t.
        """
        _, density = self.first_threshold()
        tried: list[Choice] = []
        for _ in range(CALIBRATION):
            theta, u, *_ = self.limits(beta, a, t)
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
    rows = jax.jit(jax.vmap(lambda seed: jax.random.normal(jax.random.fold_in(key, seed), (3, d))))
    w0, w_star, order = np.moveaxis(np.asarray(rows(jnp.asarray(seeds, jnp.uint32))), 1, 0)
    # The ranks of the third row are a random permutation.
    w_star = w_star * (np.argsort(np.argsort(order, 1), 1) >= round(truth_zeros * d))
    return Draws(*(jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True)) for x in (w0, w_star)))


def step_at(kind: str, t: Array, a: Array) -> Array:
    """Returns the step s = λ/β at which the penalty's threshold is t."""
    if kind == "l1":
        return t
    if kind == "l0":
        return t**2 / 2
    if kind == "tl1":
        return jnp.where(2 * t <= a, t * a / (a + 1), (t + a / 2) ** 2 / (2 * (a + 1)))
    return jnp.exp(_log_step(lambda log_step: jnp.log(find(kind)(a).threshold(jnp.exp(log_step))) - jnp.log(t), t))


def _log_step(excess: Callable[[Array], Array], t: Array) -> Array:
    """Returns the root of an increasing function by bisection around log t; differentiable."""

    def bisect(function: Callable[[Array], Array], start: Array) -> Array:
        def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            middle = (ends[0] + ends[1]) / 2
            above = function(middle) > 0
            return jnp.where(above, ends[0], middle), jnp.where(above, middle, ends[1])

        low, high = jax.lax.fori_loop(0, 60, halve, (start - WIDE, start + WIDE))
        return (low + high) / 2

    return jax.lax.custom_root(excess, jnp.log(t), bisect, lambda linear, y: y / linear(jnp.ones_like(y)))


def best_angle(w_star: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns, for each row of w*, the least angle to a vector with ``counts`` nonzero components.

    On a given support the closest vector is the restriction of w*; the best support has the largest components.
    """
    squares = np.cumsum(np.sort(w_star.astype(np.float64) ** 2, 1)[:, ::-1], 1)
    inside = np.concatenate([np.zeros((len(squares), 1)), squares], 1)[np.arange(len(squares)), counts]
    return np.arctan2(np.sqrt(np.maximum(squares[:, -1] - inside, 0)), np.sqrt(inside))


def measure(cell: Cell, choice: Choice, draws: Draws) -> dict[str, np.ndarray]:
    """Returns θ(ū,w*), the zeros of ū, the least angle with as many, and convergence, per held-out seed."""
    size, count = len(cell.draws.w0), len(draws.w0)
    parts = []
    for begin in range(0, count, size):
        # Batches of the compiled size; the last one is padded with the first seeds.
        rows = np.arange(begin, begin + size) % count
        batch = jax.tree.map(lambda x, rows=rows: x[rows], draws)
        theta, u, _, converged = cell.limits(choice.beta, choice.a, choice.t, batch)
        parts.append((np.asarray(theta), (np.asarray(u) == 0).sum(1), np.asarray(converged)))
    angles, zeros, ended = (np.concatenate(column)[:count] for column in zip(*parts, strict=True))
    w_star = np.asarray(draws.w_star)
    best = best_angle(w_star, w_star.shape[1] - zeros)
    return {"theta": angles, "zeros": zeros, "best": best, "converged": ended}


@functools.partial(jax.jit, static_argnames=("kind", "max_steps"))
def limits_of(kind: str, max_steps: int, k: int, numbers: dict[str, Array], draws: Draws) -> Limits:
    """Returns θ(ū,w*), ū, w̄ and the mask of converged runs of all seeds at β, a and t in ``numbers``."""
    beta, a, t = numbers["beta"], numbers["a"], numbers["t"]
    penalty = find(kind)(a)
    lam = beta * step_at(kind, t, a)
    chain = optax.chain(rv.rvsm(penalty, lam, beta), optax.sgd(largest_learning_rate(beta)), rv.unit_sphere())
    tol = 1e-12 if draws.w0.dtype == jnp.float64 else 1e-6

    def one(w0: Array, w_star: Array) -> tuple[Array, Array, Array, Array]:
        end = rv.solve(rv.NoOverlapReLU(k), chain, w0, w_star, tol=tol, max_steps=max_steps, check_every=10)
        return rv.angle(end.u, w_star), end.u, end.w, end.converged

    return jax.vmap(one)(*draws)
