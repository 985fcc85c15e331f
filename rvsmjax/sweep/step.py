"""One RVSM step on a tile of lanes, fused: the same iteration as the optax chain, written for speed.

A tile is an array of shape (d, lanes), lanes in the minor axis. Norm and inner product with w* are all that the
gradient needs of a lane (``OneLayerProblem.coefficients``), so a step is two sums and one pass: the scaling to the
sphere is folded into the next step's coefficients, and w − u is formed directly by ``Penalty.shrinkage``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rvsmjax._polynomial import evaluate
from rvsmjax.penalties import Penalty
from rvsmjax.problems import OneLayerProblem


class Tile(NamedTuple):
    """What stays fixed along the run of a tile; lane numbers have shape (lanes,).

    Attributes:
      problem: its leaves of shape (lanes,).
      penalty: its leaves of shape (lanes,).
      lam: λ.
      beta: β.
      learning_rate: η.
      w_star: unit vectors, of shape (d, lanes).
      normalize: whether w goes back to the sphere after each step.
      unrolled: whether sums over d are written out row by row.
    """

    problem: OneLayerProblem
    penalty: Penalty
    lam: Array
    beta: Array
    learning_rate: Array
    w_star: Array
    normalize: bool
    unrolled: bool = False


def advance(tile: Tile, w: Array, count: int) -> Array:
    """Returns w after ``count`` steps of ŵ = w − η(∇f(w) + β(w − u)), each scaled to the sphere if so asked."""
    shrink, pull = _shrinker(tile), tile.learning_rate * tile.beta
    w = jax.lax.fori_loop(0, count, lambda _, w: _step(tile, shrink, pull, w), w)
    return w * jax.lax.rsqrt(_dot(tile, w, w)) if tile.normalize else w


def residual(tile: Tile, w: Array) -> Array:
    """Returns ‖∇f(w) + β(w − u)‖, of shape (lanes,), on the sphere of its tangential part alone."""
    scale, p, c = _geometry(tile, w)
    force = tile.beta * _shrinker(tile)(w)
    if not tile.normalize:
        parts = p * (w * scale) + c * tile.w_star + force
        return jnp.sqrt(_dot(tile, parts, parts))
    # As a vector: the two parts cancel, and their squares would lose the difference. Of w* − w, which is small at a
    # limit, rather than of w*: c may be large.
    gap = c * (tile.w_star - w) + force
    radial = _dot(tile, gap, w) * scale * scale
    return jnp.sqrt(_sum(tile, lambda g, v: (g - radial * v) ** 2, gap, w))


def _step(tile: Tile, shrink: Callable[[Array], Array], pull: Array, w: Array) -> Array:
    scale, p, c = _geometry(tile, w)
    eta = tile.learning_rate
    if tile.normalize:
        keep, seen = (1 - eta * p) * scale, w * scale
    else:
        keep, seen = 1 - eta * p * scale, w
    return keep * w - (eta * c) * tile.w_star - pull * shrink(seen)


def _geometry(tile: Tile, w: Array) -> tuple[Array, Array, Array]:
    """Returns 1/‖w‖ and the coefficients of the gradient at w, on the sphere at w/‖w‖."""
    squares = _dot(tile, w, w)
    scale = jax.lax.rsqrt(squares)
    # All that follows is made of roots, √2·sin(θ/2) first: XLA computes a sum anew for each of its users, a root once.
    half = jnp.sqrt(jnp.clip(1 - _dot(tile, w, tile.w_star) * scale, 0, 2))
    gap = half * half
    near = jnp.minimum(gap, 2 - gap)
    root = jnp.sqrt(near)
    # Under 1e-3 this angle is off by eps/θ, the gradient by that times ‖w − w*‖/(kπ): by eps.
    acute, sine = root * evaluate(_arccos_ratio, 1 - near), root * jnp.sqrt(2 - near)
    theta = jnp.where(gap > 1, math.pi - acute, acute)
    one = jnp.ones_like(scale)
    p, c = tile.problem.coefficients(one if tile.normalize else squares * scale, one, theta, sine)
    return scale, p, c


def _shrinker(tile: Tile) -> Callable[[Array], Array]:
    step = tile.lam / tile.beta
    if tile.penalty.separable:
        return tile.penalty.shrinker(step)
    return lambda w: jax.vmap(lambda penalty, v, s: penalty.shrinkage(v, s), (0, 1, 0), 1)(tile.penalty, w, step)


def _arccos_ratio(x: np.ndarray) -> np.ndarray:
    """Arccos(x)/√(1 − x): analytic around [0, 1], √2 at its end."""
    gap = np.sqrt(1 - x)
    return np.where(gap > 0, 2 * np.arcsin(gap / np.sqrt(2)) / np.where(gap > 0, gap, 1), np.sqrt(2))


def _dot(tile: Tile, a: Array, b: Array) -> Array:
    return _sum(tile, jax.lax.mul, a, b)


def _sum(tile: Tile, part: Callable[..., Array], *arrays: Array) -> Array:
    """Returns the sum of ``part`` over the rows of some arrays."""
    if not tile.unrolled:
        return jnp.sum(part(*arrays), 0)
    # Four sums side by side, as an addition waits for the last one.
    rows = zip(*([jax.lax.slice_in_dim(a, i, i + 1) for i in range(len(a))] for a in arrays), strict=True)
    parts = [part(*row) for row in rows]
    chains = [functools.reduce(jax.lax.add, parts[i::4]) for i in range(min(4, len(parts)))]
    return functools.reduce(jax.lax.add, chains)[0]
