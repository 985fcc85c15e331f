"""Fused RVSM step on a tile of lanes: the same iteration as the optax chain, written for speed.

A tile is an array of shape (d, lanes) with lanes on the minor axis. The gradient depends on w only through its norm and
its inner product with w* (``OneLayerProblem.coefficients``), so a step is two reductions and one elementwise pass: the
scaling to the sphere is folded into the next step's coefficients, and ``Penalty.shrinkage`` forms w − u directly.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rvsmjax._polynomial import evaluate
from rvsmjax.penalties import Penalty
from rvsmjax.problems import OneLayerProblem

UNROLLED = 112
"""Largest d whose sums are unrolled by row on CPUs: LLVM then keeps the partial sums in registers; for larger d it does
not, and folded sums are up to twice as fast as XLA's library reduction."""
FOLD, FOLDED = 40, 2560
"""Rows onto which the rows of a larger d are added, block by block, before the unrolled sum, and the largest such d.
They are the same for every d, so that rows of zeros change no bit."""
FEW = 64
"""Largest d whose unrolled sums slice four rows at a time: beyond it XLA does not fuse the slices into one loop. Sums
may round differently on either side of this bound, but kinds do not share code across it, see ``plan.ROWS``."""


class Tile(NamedTuple):
    """Fixed parameters of the lanes of a tile; leaves have shape (lanes,) unless stated.

    Attributes:
      problem: the problems.
      penalty: the penalties.
      lam: λ.
      beta: β.
      learning_rate: η.
      w_star: unit vectors of shape (d, lanes).
      normalize: whether w is normalised after each step.
      unrolled: whether sums over d are unrolled by row, and folded before if d is large.
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
        """Returns w, normalised if ``self.normalize``."""
        return w / jnp.sqrt(self.dot(w, w)) if self.normalize else w

    def dot(self, a: Array, b: Array) -> Array:
        """Returns the inner products over d, of shape (lanes,)."""
        return self.sum(jax.lax.mul, a, b)

    def sum(self, term: Callable[..., Array], *arrays: Array, rows: int = 4) -> Array:
        """Returns the sum over d of ``term`` applied elementwise to arrays of shape (d, lanes), of shape (lanes,).

        Four rows per slice compile faster than one, but run slower if d is large or an array is computed only for this
        sum.
        """
        d = len(arrays[0])
        if not self.unrolled or d > FOLDED:
            return jnp.sum(term(*arrays), 0)
        if d > UNROLLED:
            return self.sum(lambda row: row, _folded(term, arrays))
        rows = rows if d <= FEW else 1

        def terms(i: int, n: int) -> Array:
            return term(*(jax.lax.slice_in_dim(a, i, i + n) for a in arrays))

        # Four independent partial sums hide the latency of the additions.
        slices, stride = [terms(i, rows) for i in range(0, d - d % 4, rows)], 4 // rows
        sums = [functools.reduce(jax.lax.add, slices[i::stride]) for i in range(stride if slices else 0)]
        four = [jax.lax.slice_in_dim(partial, i, i + 1) for partial in sums for i in range(rows)]
        rest = [terms(i, 1) for i in range(d - d % 4, d)]
        chains = [*map(jax.lax.add, four, rest), *four[len(rest) :]] or rest
        return functools.reduce(jax.lax.add, chains)[0]


class Iteration:
    """Step function of a tile. The constructor computes the loop invariants, so build it outside of loops."""

    def __init__(self, tile: Tile) -> None:
        self.tile = tile
        self.inverse_rate = 1 / tile.learning_rate
        self.pull = tile.learning_rate * tile.beta
        self.shrink = self._shrinker(tile.lam / tile.beta)

    def advance(self, w: Array, active: Array, count: int) -> Array:
        """Returns w after ``count`` steps of ŵ = w − η(∇f(w) + β(w − u)).

        If ``tile.normalize``, all methods accept and return w of any length, standing for w/‖w‖: the scaling to the
        sphere is deferred to the next step.

        Args:
          w: iterates of shape (d, lanes).
          active: mask of running lanes, of shape (lanes,); other lanes keep their bits.
          count: number of steps.
        """
        pull = jnp.where(active, self.pull, 0)

        def body(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            i, w = carry
            return i + 1, self._step(w, active, pull)

        # A single counter: fori_loop carries two, which cost time with XLA's loop simplification disabled.
        return jax.lax.while_loop(lambda carry: carry[0] < count, body, (jnp.zeros((), jnp.int32), w))[1]

    def step(self, w: Array, active: Array) -> Array:
        """Returns w after one step, see ``advance``."""
        return self._step(w, active, jnp.where(active, self.pull, 0))

    def residual(self, w: Array) -> Array:
        """Returns ‖∇f(w) + β(w − u)‖ of shape (lanes,), only its tangential part on the sphere."""
        tile = self.tile
        _, scale, p, c = self._geometry(w)
        force = tile.beta * self.shrink(w * scale if tile.normalize else w)
        if not tile.normalize:
            total = p * (w * scale) + c * tile.w_star + force
            return jnp.sqrt(tile.dot(total, total))
        # Subtracts the radial part as a vector: subtracting squared norms would cancel. Uses w* − w, small at a limit,
        # in place of w* because c may be large.
        gap = c * (tile.w_star - w * scale) + force
        radial = tile.dot(gap, w) * scale * scale
        return jnp.sqrt(tile.sum(lambda g, v: (g - radial * v) ** 2, gap, w, rows=1))

    def _step(self, w: Array, active: Array, pull: Array) -> Array:
        norm, scale, p, c = self._geometry(w)
        # Divisions, which XLA computes once per lane; it would recompute cheaper operations for each component.
        ahead = jnp.where(active, c, 0) / self.inverse_rate
        if self.tile.normalize:
            keep, shrunk = jnp.where(active, 1 - self.tile.learning_rate * p, norm) / norm, w * scale
        else:
            keep, shrunk = jnp.where(active, norm - self.tile.learning_rate * p, norm) / norm, w
        return keep * w - ahead * self.tile.w_star - pull * self.shrink(shrunk)

    def _geometry(self, w: Array) -> tuple[Array, Array, Array, Array]:
        """Returns ‖w‖, 1/‖w‖ and the gradient's coefficients at w, or at w/‖w‖ on the sphere."""
        norm = jnp.sqrt(self.tile.dot(w, w))
        scale = 1 / norm
        # Everything below derives from square roots, first √2·sin(θ/2): XLA duplicates a reduction into each of its
        # consumers, but computes a square root once.
        half = jnp.sqrt(jnp.clip(1 - self.tile.dot(w, self.tile.w_star) * scale, 0, 2))
        gap = half * half
        near = jnp.minimum(gap, 2 - gap)
        root = jnp.sqrt(near)
        # Below 1e-3 the angle has error eps/θ, the gradient that times ‖w − w*‖/(kπ), which is eps.
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


def _folded(term: Callable[..., Array], arrays: Sequence[Array]) -> Array:
    """Returns the sums of ``term`` over the rows i, i + FOLD, i + 2·FOLD, …, of shape (FOLD, lanes)."""
    d = len(arrays[0])
    blocks = [term(*(jax.lax.slice_in_dim(a, i, min(i + FOLD, d)) for a in arrays)) for i in range(0, d, FOLD)]
    blocks[-1] = jnp.pad(blocks[-1], ((0, -d % FOLD), (0, 0)))
    # Without the barrier, XLA fuses the blocks into the unrolled sum, which then has d terms again.
    return jax.lax.optimization_barrier(functools.reduce(jax.lax.add, blocks))


def _arccos_ratio(x: np.ndarray) -> np.ndarray:
    """Arccos(x)/√(1 − x): analytic on a neighbourhood of [0, 1], with value √2 at 1."""
    gap = np.sqrt(1 - x)
    return np.where(gap > 0, 2 * np.arcsin(gap / np.sqrt(2)) / np.where(gap > 0, gap, 1), np.sqrt(2))
