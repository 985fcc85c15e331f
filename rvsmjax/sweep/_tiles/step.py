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

UNROLLED = 112
"""Greatest d whose sums are written out row by row on a CPU: LLVM then adds them in registers, which is faster than the
library that XLA calls for a sum; beyond it does not."""
FEW = 64
"""Greatest d whose sums take four rows at once: beyond it XLA does not keep them in one loop. On its two sides they may
round differently, but no code is shared across it, see ``plan.ROWS``."""


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

    def scaled(self, w: Array) -> Array:
        """Returns w, on the sphere if so asked."""
        return w / jnp.sqrt(self.dot(w, w)) if self.normalize else w

    def dot(self, a: Array, b: Array) -> Array:
        """Returns the inner product of two arrays of shape (d, lanes), of shape (lanes,)."""
        return self.sum(jax.lax.mul, a, b)

    def sum(self, part: Callable[..., Array], *arrays: Array, rows: int = 4) -> Array:
        """Returns the sum of ``part`` over the rows of some arrays of shape (d, lanes), of shape (lanes,).

        Four rows at once are compiled faster than one, but run slower where d is large or an array is computed for this
        sum.
        """
        if not self.unrolled:
            return jnp.sum(part(*arrays), 0)
        d = len(arrays[0])
        rows = rows if d <= FEW else 1

        def at(i: int, n: int) -> Array:
            return part(*(jax.lax.slice_in_dim(a, i, i + n) for a in arrays))

        # Four sums side by side, as an addition waits for the last one.
        parts, apart = [at(i, rows) for i in range(0, d - d % 4, rows)], 4 // rows
        sums = [functools.reduce(jax.lax.add, parts[i::apart]) for i in range(apart if parts else 0)]
        four = [jax.lax.slice_in_dim(one, i, i + 1) for one in sums for i in range(rows)]
        rest = [at(i, 1) for i in range(d - d % 4, d)]
        chains = [*map(jax.lax.add, four, rest), *four[len(rest) :]] or rest
        return functools.reduce(jax.lax.add, chains)[0]


class Iteration:
    """The steps of a tile. What stays fixed along a run is computed once, here: build it outside of loops."""

    def __init__(self, tile: Tile) -> None:
        self.tile = tile
        self.inverse_rate = 1 / tile.learning_rate
        self.pull = tile.learning_rate * tile.beta
        self.shrink = self._shrinker(tile.lam / tile.beta)

    def advance(self, w: Array, going: Array, count: int) -> Array:
        """Returns w after ``count`` steps of ŵ = w − η(∇f(w) + β(w − u)), on the sphere not yet scaled to it.

        There w of any length stands for w/‖w‖, in all functions: each step begins with the scaling.

        Args:
          w: of shape (d, lanes).
          going: of shape (lanes,); other lanes stay where they are, to the bit.
          count: number of steps.
        """
        pull = jnp.where(going, self.pull, 0)

        def one(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            i, w = carry
            return i + 1, self._step(w, going, pull)

        # With one counter: where XLA's clean-up of loops is left out, those of fori_loop would slow it down.
        return jax.lax.while_loop(lambda carry: carry[0] < count, one, (jnp.zeros((), jnp.int32), w))[1]

    def step(self, w: Array, going: Array) -> Array:
        """Returns w after one step, see ``advance``."""
        return self._step(w, going, jnp.where(going, self.pull, 0))

    def residual(self, w: Array) -> Array:
        """Returns ‖∇f(w) + β(w − u)‖, of shape (lanes,), on the sphere of its tangential part alone."""
        tile = self.tile
        _, scale, p, c = self._geometry(w)
        force = tile.beta * self.shrink(w * scale if tile.normalize else w)
        if not tile.normalize:
            parts = p * (w * scale) + c * tile.w_star + force
            return jnp.sqrt(tile.dot(parts, parts))
        # As a vector: the two parts cancel, and their squares would lose the difference. Of w* − w, which is small at a
        # limit, rather than of w*: c may be large.
        gap = c * (tile.w_star - w * scale) + force
        radial = tile.dot(gap, w) * scale * scale
        return jnp.sqrt(tile.sum(lambda g, v: (g - radial * v) ** 2, gap, w, rows=1))

    def _step(self, w: Array, going: Array, pull: Array) -> Array:
        norm, scale, p, c = self._geometry(w)
        # As quotients, which XLA computes once for a lane; what is cheap it would compute for each component.
        ahead = jnp.where(going, c, 0) / self.inverse_rate
        if self.tile.normalize:
            keep, seen = jnp.where(going, 1 - self.tile.learning_rate * p, norm) / norm, w * scale
        else:
            keep, seen = jnp.where(going, norm - self.tile.learning_rate * p, norm) / norm, w
        return keep * w - ahead * self.tile.w_star - pull * self.shrink(seen)

    def _geometry(self, w: Array) -> tuple[Array, Array, Array, Array]:
        """Returns ‖w‖, 1/‖w‖ and the coefficients of the gradient at w, on the sphere at w/‖w‖."""
        norm = jnp.sqrt(self.tile.dot(w, w))
        scale = 1 / norm
        # All that follows is made of roots, √2·sin(θ/2) first: XLA computes a sum anew for each of its users, a root
        # once.
        half = jnp.sqrt(jnp.clip(1 - self.tile.dot(w, self.tile.w_star) * scale, 0, 2))
        gap = half * half
        near = jnp.minimum(gap, 2 - gap)
        root = jnp.sqrt(near)
        # Under 1e-3 this angle is off by eps/θ, the gradient by that times ‖w − w*‖/(kπ): by eps.
        acute, sine = root * evaluate(_arccos_ratio, 1 - near), root * jnp.sqrt(2 - near)
        theta = jnp.where(gap > 1, math.pi - acute, acute)
        one = jnp.ones_like(scale)
        length = one if self.tile.normalize else norm
        p, c = self.tile.problem.coefficients(length, one, theta, sine)
        return norm, scale, p, c

    def _shrinker(self, step: Array) -> Callable[[Array], Array]:
        penalty = self.tile.penalty
        if penalty.separable:
            return penalty.shrinker(step)
        return lambda w: jax.vmap(lambda penalty, v, s: penalty.shrinkage(v, s), (0, 1, 0), 1)(penalty, w, step)


def _arccos_ratio(x: np.ndarray) -> np.ndarray:
    """Arccos(x)/√(1 − x): analytic around [0, 1], √2 at its end."""
    gap = np.sqrt(1 - x)
    return np.where(gap > 0, 2 * np.arcsin(gap / np.sqrt(2)) / np.where(gap > 0, gap, 1), np.sqrt(2))
