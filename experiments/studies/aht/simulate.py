"""Runs of Algorithm 2 of arXiv 1812.05719, adaptive hard thresholding: starts, and a tile of lanes at a time.

``run_tile`` is the chain ``sgd, adaptive_hard_threshold`` (and ``unit_sphere``, if so asked), written for many lanes at
once; a test holds it against the chain.
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

from ...records.lanes import Numbers, drawn, lane_keys
from ..one_layer.hard import keep_largest
from .cells import Cell

STARTS = ("same", "half", "one", "ties", "near", "none", "opposite")
"""Where w⁰ stands to w*: on the same support; sharing half of it; sharing one place; half of it with all magnitudes
equal; on the same support at an angle just under π; on a support apart; at an angle of π."""

ENDS = ("recovered", "stationary elsewhere", "step cap")
RECOVERED, STATIONARY, CAP = range(3)

RADII = (0.25, 4.0)
"""Range of ‖w⁰‖, ‖w*‖ = 1."""

NEAR = (1e-2, 1e-1)
"""Range of π − θ of the start "near"."""


class Lanes(NamedTuple, Generic[Numbers]):
    """Random problems with their starts; s-sparse w* of norm 1 and w⁰, arrays with the lanes in front."""

    w_star: Numbers
    w0: Numbers
    k: Numbers
    s: Numbers


def overlap(start: str, s: int) -> int:
    """Returns how many places the supports of w⁰ and w* share."""
    return {"half": (s + 1) // 2, "ties": (s + 1) // 2, "one": 1, "none": 0}.get(start, s)


def possible(start: str, s: int, d: int) -> bool:
    """Returns whether the start exists in d dimensions and is no other start under another name."""
    fewest = {"half": 4, "one": 2, "ties": 2, "near": 2}
    return s >= fewest.get(start, 1) and 2 * s - overlap(start, s) <= d


def draw(root: Array, seeds: np.ndarray, cells: Sequence[Cell], d: int, dtype: DTypeLike) -> Lanes[np.ndarray]:
    """Returns the lanes of all seeds of each cell, one cell after another; cells share a seed's numbers.

    w* stands on the first s places, w⁰ on s places of which the first are the last of w*: no other places make another
    problem, as the loss knows no order of them.
    """
    normals = np.asarray(drawn(jax.random.normal, lane_keys(root, seeds, 0), (2, d), dtype))
    uniform = np.asarray(drawn(jax.random.uniform, lane_keys(root, seeds, 1), (2,), dtype))
    alpha, radius = (low * (high / low) ** uniform[:, [i]] for i, (low, high) in enumerate((NEAR, RADII)))
    place = np.arange(d)
    lanes = []
    for cell in cells:
        numbers = np.sign(normals) if cell.start == "ties" else normals
        first = cell.s - overlap(cell.start, cell.s)
        w_star = _unit(numbers[:, 0] * (place < cell.s))
        direction = _unit(numbers[:, 1] * ((place >= first) & (place < first + cell.s)))
        if cell.start == "opposite":
            direction = -w_star
        elif cell.start == "near":
            aside = _unit(direction - np.sum(direction * w_star, -1, keepdims=True) * w_star)
            direction = -np.cos(alpha) * w_star + np.sin(alpha) * aside
        k, s = (np.full(len(seeds), number, np.int32) for number in (cell.k, cell.s))
        lanes.append(Lanes(w_star, (radius * direction).astype(dtype), k, s))
    return Lanes(*(np.concatenate(parts) for parts in zip(*lanes, strict=True)))


def meets_condition(w0: Array, w_star: Array) -> Array:
    """Returns whether w⁰ on the support of w* is neither zero nor at an angle of π from w*, up to rounding.

    Source: A Theorem 2.
    """
    inside = jnp.where(w_star != 0, w0, 0)
    return (norm(inside) > 0) & (jnp.pi - angle(inside, w_star) > jnp.sqrt(jnp.finfo(w0.dtype).eps))


class Outcome(NamedTuple):
    """How lanes ended.

    Attributes:
      end: place in ``ENDS``; recovered: w is within the tolerance of w* and its zeros are those of w*.
      steps: steps taken.
      support_steps: steps after which the s largest components of w were those of w*, for good.
      distance: ‖w − w*‖.
      w: the last iterate.
    """

    end: Array
    steps: Array
    support_steps: Array
    distance: Array
    w: Array


def run_tile(lanes: Lanes[Array], *, learning_rate: float, tol: float, max_steps: int, normalize: bool) -> Outcome:
    """Returns how the lanes of a tile end; one that has ended is held still while the others go on."""
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
        found = (norm(new - w_star, 0) <= tol) & jnp.all((new != 0) == true, 0)
        still = norm(new - w, 0) <= 4 * jnp.finfo(w.dtype).eps
        end = jnp.where(running, jnp.where(found, RECOVERED, jnp.where(still, STATIONARY, CAP)), end)
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
    """Returns which components of w (d, lanes) are its s largest; counted only if a lane's can differ from ``last``."""
    size = jnp.abs(w)
    kept, dropped = jnp.min(jnp.where(last, size, jnp.inf), 0), jnp.max(jnp.where(last, 0, size), 0)
    same = (kept > dropped) & (jnp.sum(last, 0) == s)
    return jax.lax.cond(jnp.all(same | ~running), lambda: last, lambda: _largest(w, s))


def _largest(w: Array, s: Array) -> Array:
    """Returns which components of w (d, lanes) are its s largest and not zero; ties go to the lowest index."""
    return jax.vmap(keep_largest, (1, 0), 1)(w, s) != 0


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)
