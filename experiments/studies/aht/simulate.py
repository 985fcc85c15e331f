"""Adaptive hard thresholding (Algorithm 2 of arXiv 1812.05719): starts, and runs of a tile of lanes.

``run_tile`` is the chain ``sgd, adaptive_hard_threshold`` (and ``unit_sphere`` with ``normalize``), vectorised over
lanes; a test compares the two.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import DTypeLike

import rvsmjax as rv
from rvsmjax.geometry import angle, norm, unit

from ...one_layer.hard import keep_largest
from ...records.lanes import Numbers, drawn, lane_keys
from .cells import Cell, overlap

STARTS = ("same", "half", "one", "ties", "near", "none", "opposite")
"""Relation of w⁰ to w*: same support; half of it shared; one index shared; half shared and equal magnitudes; same
support at an angle just below π; disjoint supports; angle π."""

ENDS = ("recovered", "stationary elsewhere", "step cap")
RECOVERED, STATIONARY, CAP = range(3)

RADII = (0.25, 4.0)
"""Range of ‖w⁰‖, with ‖w*‖ = 1."""

NEAR = (1e-2, 1e-1)
"""Range of π − θ for the start "near"."""


class Lanes(NamedTuple, Generic[Numbers]):
    """Random problems: s-sparse w* of norm 1 and w⁰, k and s; fields have a leading lane axis."""

    w_star: Numbers
    w0: Numbers
    k: Numbers
    s: Numbers


def draw(root: Array, seeds: np.ndarray, cells: Sequence[Cell], d: int, dtype: DTypeLike) -> Lanes[np.ndarray]:
    """Returns the lanes of all seeds, cell by cell; cells share the random numbers of a seed.

    The support of w* is the first s indices. That of w⁰ is s consecutive indices that begin in it, or just behind it.
    This loses no generality: the loss is invariant under permutations of the indices.
    """
    normals = np.asarray(drawn(jax.random.normal, lane_keys(root, seeds, 0), (2, d), dtype))
    uniform = np.asarray(drawn(jax.random.uniform, lane_keys(root, seeds, 1), (2,), dtype))
    alpha, radius = (low * (high / low) ** uniform[:, [i]] for i, (low, high) in enumerate((NEAR, RADII)))
    index = np.arange(d)
    lanes = []
    for cell in cells:
        numbers = np.sign(normals) if cell.start == "ties" else normals
        first = cell.s - overlap(cell.start, cell.s)
        w_star = _unit(numbers[:, 0] * (index < cell.s))
        direction = _unit(numbers[:, 1] * ((index >= first) & (index < first + cell.s)))
        if cell.start == "opposite":
            direction = -w_star
        elif cell.start == "near":
            across = _unit(direction - np.sum(direction * w_star, -1, keepdims=True) * w_star)
            direction = -np.cos(alpha) * w_star + np.sin(alpha) * across
        k, s = (np.full(len(seeds), number, np.int32) for number in (cell.k, cell.s))
        lanes.append(Lanes(w_star, (radius * direction).astype(dtype), k, s))
    return Lanes(*(np.concatenate(parts) for parts in zip(*lanes, strict=True)))


def meets_condition(w0: Array, w_star: Array) -> Array:
    """Returns whether w⁰, restricted to the support of w*, is nonzero and not at an angle of π to w*, up to rounding.

    Source: A Theorem 2.
    """
    restricted = jnp.where(w_star != 0, w0, 0)
    return (norm(restricted) > 0) & (jnp.pi - angle(restricted, w_star) > jnp.sqrt(jnp.finfo(w0.dtype).eps))


class Outcome(NamedTuple):
    """Outcome of lanes.

    Attributes:
      end: index in ``ENDS``; recovered: ‖w − w*‖ is at most the tolerance and w has the zeros of w*.
      steps: number of steps.
      support_steps: steps after which the s largest components of w stay those of w*.
      distance: ‖w − w*‖.
      w: last iterate.
    """

    end: Array
    steps: Array
    support_steps: Array
    distance: Array
    w: Array


def run_tile(lanes: Lanes[Array], *, learning_rate: float, tol: float, max_steps: int, normalize: bool) -> Outcome:
    """Returns the outcome of a tile's lanes; finished lanes stay unchanged while others run."""
    w_star, w0 = lanes.w_star.T, lanes.w0.T
    grad = jax.vmap(lambda k, w, v: rv.NoOverlapReLU(k).grad(w, v), (0, 1, 1), 1)
    true = w_star != 0

    def body(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        w, support, t, support_steps, steps, end = carry
        running = end == CAP
        new = w - learning_rate * grad(lanes.k, w, w_star)
        new_support = _support(new, support, lanes.s, running)
        moved = jnp.any(new_support != support, 0)
        new = jnp.where(moved & ~new_support, 0, new)
        if normalize:
            new = unit(new, 0)
        t = t + 1
        wrong = jnp.any(new_support != true, 0)
        support_steps = jnp.where(running & wrong, t + 1, support_steps)
        recovered = (norm(new - w_star, 0) <= tol) & jnp.all((new != 0) == true, 0)
        stationary = norm(new - w, 0) <= 4 * jnp.finfo(w.dtype).eps
        end = jnp.where(running, jnp.where(recovered, RECOVERED, jnp.where(stationary, STATIONARY, CAP)), end)
        new, new_support = jnp.where(running, new, w), jnp.where(running, new_support, support)
        return new, new_support, t, support_steps, jnp.where(running, t, steps), end

    support = _largest(w0, lanes.s)
    zeros = jnp.zeros(w0.shape[1], jnp.int32)
    wrong = jnp.any(support != true, 0).astype(jnp.int32)
    carry: tuple[Array, ...] = (w0, support, jnp.int32(0), wrong, zeros, zeros + CAP)
    w, _, _, support_steps, steps, end = jax.lax.while_loop(
        lambda carry: jnp.any(carry[-1] == CAP) & (carry[2] < max_steps), body, carry
    )
    return Outcome(end, steps, support_steps, norm(w - w_star, 0), w.T)


@functools.partial(jax.jit, static_argnames="normalize")
def replay(lane: Lanes[Array], learning_rate: float, steps: Array, normalize: bool) -> Array:
    """Returns w after ``steps`` steps of the library's chain on one lane."""
    w0, w_star = jnp.asarray(lane.w0), jnp.asarray(lane.w_star)
    chain = optax.chain(optax.sgd(learning_rate), rv.adaptive_hard_threshold(lane.s))
    if normalize:
        chain = optax.chain(chain, rv.unit_sphere())

    def step(_: int, carry: tuple[Array, optax.OptState]) -> tuple[Array, optax.OptState]:
        w, state = carry
        updates, state = chain.update(rv.NoOverlapReLU(lane.k).grad(w, w_star), state, w)
        return optax.apply_updates(w, updates), state

    return jax.lax.fori_loop(0, steps, step, (w0, chain.init(w0)))[0]


def _support(w: Array, last: Array, s: Array, running: Array) -> Array:
    """Returns the mask of the s largest components of w (d, lanes); computed only if it can differ from ``last``."""
    size = jnp.abs(w)
    kept, dropped = jnp.min(jnp.where(last, size, jnp.inf), 0), jnp.max(jnp.where(last, 0, size), 0)
    same = (kept > dropped) & (jnp.sum(last, 0) == s)
    return jax.lax.cond(jnp.all(same | ~running), lambda: last, lambda: _largest(w, s))


def _largest(w: Array, s: Array) -> Array:
    """Returns the mask of the s largest nonzero components of w (d, lanes); ties keep the lowest index."""
    return jax.vmap(keep_largest, (1, 0), 1)(w, s) != 0


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)
