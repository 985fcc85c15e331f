"""The sorted l1 norm, SLOPE."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._double import Double, add, divide, negative, single
from rvsmjax._exact import two_product
from rvsmjax._sharding import automatic, varying
from rvsmjax.geometry import float_dtype, working_dtype
from rvsmjax.penalties.base import Penalty


@dataclasses.dataclass(frozen=True)
class SLOPE(Penalty):
    r"""P(x) = Σ w_i |x|₍ᵢ₎ over the sorted magnitudes |x|₍₁₎ >= |x|₍₂₎ >= …: the largest weight goes to the largest.

    prox sorts |v|, subtracts ``step``·w, projects onto the nonincreasing nonnegative sequences and undoes the sorting.
    The projection is exact, by pooling adjacent violators on a stack of fixed size: n log n operations for the sort and
    2n iterations of a loop.

    Args:
      weights: w, nonincreasing and >= 0, one for each component of the array that the penalty applies to.

    Raises:
      ValueError: if ``weights`` is not a vector, has a negative or infinite entry, or increases; when applied, if the
        array has another number of components.

    Source: M. Bogdan, E. van den Berg, C. Sabatti, W. Su, E. Candès, Annals of Applied Statistics 2015,
    arXiv 1407.3824, Algorithms 3 and 4.

    Example:
      >>> SLOPE((3.0, 1.0, 0.0)).prox(jnp.array([4.0, -5.0, 0.5]), 1.0).tolist()
      [2.5, -2.5, 0.5]
    """

    weights: Sequence[float] | Array | np.ndarray
    name: ClassVar[str] = "slope"
    separable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.weights, list):
            object.__setattr__(self, "weights", tuple(self.weights))
        _checks.nonnegative("weights", self.weights)
        known = _checks.known(self.weights)
        if np.ndim(self.weights) != 1 if known is None else known.ndim != 1 or not known.size:
            raise ValueError(f"weights must be a nonempty vector, got {_checks.show(self.weights)}")
        if known is not None and np.any(np.diff(known) > 0):
            raise ValueError(f"weights must not increase, got {_checks.show(self.weights)}")

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ``ValueError`` unless an array of this shape has as many components as there are weights."""
        if int(np.prod(shape)) != len(self.weights):
            raise ValueError(f"weights must be one for each component, got {len(self.weights)} for shape {shape}")

    def value(self, x: ArrayLike) -> Array:
        """Returns Σ w_i |x|₍ᵢ₎."""
        x = jnp.asarray(x)
        self.check_shape(x.shape)
        return automatic(
            lambda leaves, weights: jnp.sum(jnp.sort(jnp.abs(jnp.ravel(leaves[0])), descending=True) * weights),
            [x.astype(working_dtype(x))],
            jnp.asarray(self.weights, working_dtype(x)),
            like=False,
        )

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns ``v`` with its magnitudes lowered and pooled, see the class docstring."""
        return self._signed(v, step, 0)

    def shrinkage(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns v − prox(v, step), computed directly."""
        return self._signed(v, step, 1)

    def _signed(self, v: ArrayLike, step: ArrayLike, part: int) -> Array:
        _checks.nonnegative("step", step)
        v = jnp.asarray(v)
        self.check_shape(v.shape)
        dtype = working_dtype(v)

        def whole(leaves: Sequence[Array], weights: Array, step: Array) -> list[Array]:
            (leaf,) = leaves
            size = jnp.abs(jnp.ravel(leaf.astype(dtype)))
            order = jnp.argsort(size, descending=True, stable=True)
            out = _minimizer(size[order], step, weights)[part]
            out = jnp.zeros_like(out).at[order].set(out, unique_indices=True)
            out = out.reshape(leaf.shape).astype(float_dtype(leaf))
            return [jnp.where(leaf < 0, -out, out)]

        return automatic(whole, [v], jnp.asarray(self.weights, dtype), jnp.asarray(step, dtype))[0]


@jax.custom_jvp
def _minimizer(v: Array, step: Array, weights: Array) -> tuple[Array, Array]:
    """Returns the minimizer x for a vector v >= 0 in descending order, and v − x."""
    blocks, mean = _pooled(v, step, weights)
    high, low = mean[0][blocks], mean[1][blocks]
    rest, _ = add(single(v), (-high, -low))
    return jnp.maximum(high, 0), jnp.where(high > 0, rest, v)


@_minimizer.defjvp
def _minimizer_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (v, step, weights), (dv, dstep, dweights) = primals, tangents
    x, rest = _minimizer(v, step, weights)
    blocks, _ = _pooled(v, step, weights)
    count = jax.ops.segment_sum(jnp.ones_like(v), blocks, v.size)
    change = jax.ops.segment_sum(dv - step * dweights - dstep * weights, blocks, v.size) / jnp.maximum(count, 1)
    change = jnp.where(x > 0, change[blocks], 0)
    return (x, rest), (change, dv - change)


def _pooled(v: Array, step: Array, weights: Array) -> tuple[Array, Double]:
    """Returns the block of each component, and the mean of v − step·w over each block, which decrease.

    A block is its sum, as a double word, and its count; the last two are kept apart from the stack of the others. Each
    iteration pools these two if their means increase, or else pushes the next component: each is pushed once and pooled
    at most once.
    """
    n = v.size
    step, weights = jax.lax.optimization_barrier((step, weights))  # constants would break double words, see _double
    cost = jax.lax.optimization_barrier(two_product(jnp.broadcast_to(step, v.shape), weights))
    y = jnp.stack([*add(single(v), negative(cost)), jnp.ones_like(v)], 1)

    def iterate(_: int, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        pushed, top, below, last, stack = carry
        pools = (top > 1) & (below[0] * last[2] < last[0] * below[2])
        pushes = ~pools & (pushed < n)
        # Written before it is read, the stack is updated in place.
        stack = _put(stack, below, jnp.where(pushes & (top > 1), top - 2, n))
        pooled = jnp.stack([*add((below[0], below[1]), (last[0], last[1])), below[2] + last[2]])
        below = jnp.where(pools, _row(stack, jnp.maximum(top - 3, 0)), jnp.where(pushes, last, below))
        last = jnp.where(pools, pooled, jnp.where(pushes, _row(y, jnp.minimum(pushed, n - 1)), last))
        return pushed + pushes, top + pushes - pools, below, last, stack

    zero, block = jnp.zeros((), jnp.int32), jnp.zeros((3,), v.dtype)
    start = varying((zero, zero, block, block, jnp.zeros((n + 1, 3), v.dtype)), [v])
    _, top, below, last, stack = jax.lax.fori_loop(0, 2 * n, iterate, start)
    stack = _put(_put(stack, below, jnp.where(top > 1, top - 2, n)), last, top - 1)
    sums, lows, counts = stack[:n].T
    counts = jnp.where(jnp.arange(n) < top, counts, 0)
    mean = divide((sums, lows), single(jnp.maximum(counts, 1)))
    starts = jnp.cumsum(counts.astype(jnp.int32))
    firsts = jnp.zeros((n,), jnp.int32).at[starts].add(jnp.where(counts > 0, 1, 0), mode="drop")
    return jnp.cumsum(firsts), mean


def _row(array: Array, index: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(array, index, keepdims=False)


def _put(array: Array, row: Array, index: Array) -> Array:
    return jax.lax.dynamic_update_index_in_dim(array, row, index, 0)
