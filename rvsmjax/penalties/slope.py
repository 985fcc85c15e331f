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
    r"""P(x) = Σ w_i |x|₍ᵢ₎, |x|₍₁₎ >= |x|₍₂₎ >= … the sorted magnitudes: large components cost more, and equal ones pool.

    prox sorts |v|, subtracts ``step``·w, projects on the nonincreasing nonnegative sequences and undoes the sorting. The
    projection is exact, by pooling adjacent violators, in O(n log n + n) operations on a stack of fixed size.

    Args:
      weights: w, nonincreasing and >= 0, one for each component of the array that the penalty applies to.

    Raises:
      ValueError: if ``weights`` is no vector, has a negative or infinite entry, or increases; when applied, if the array
        has another number of components.

    Source: M. Bogdan, E. van den Berg, C. Sabatti, W. Su, E. Candès, Annals of Applied Statistics 2015, arXiv 1407.3824,
    Algorithms 3 and 4.

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
    """Returns the block of each component, and the mean of v − step·w over each block: means decrease from block to block.

    A stack holds the sum and the count of each block. Each iteration pools its last two blocks if they violate the order,
    or else pushes the next component. Each of n components is pushed once and pooled at most once.
    """
    n = v.size
    high, low = add(single(v), negative(two_product(jnp.broadcast_to(step, v.shape), weights)))
    stack = jnp.zeros((n + 1,), v.dtype), jnp.zeros((n + 1,), v.dtype), jnp.zeros((n + 1,), jnp.int32)

    def iterate(_: int, carry: tuple[Array, Array, Double, Array]) -> tuple[Array, Array, Double, Array]:
        pushed, top, (sums, lows), counts = carry
        last, before = jnp.maximum(top - 1, 0), jnp.maximum(top - 2, 0)
        one = (sums[before], lows[before]), counts[before]
        two = (sums[last], lows[last]), counts[last]
        pools = (top > 1) & (one[0][0] * two[1] < two[0][0] * one[1])
        pushes = ~pools & (pushed < n)
        new = jnp.minimum(pushed, n - 1)
        together = add(one[0], two[0])
        at = jnp.where(pools, before, jnp.where(pushes, top, n))

        def put(array: Array, pooled: Array, fresh: Array) -> Array:
            return array.at[at].set(jnp.where(pools, pooled, fresh))

        sums, lows = put(sums, together[0], high[new]), put(lows, together[1], low[new])
        counts = put(counts, one[1] + two[1], jnp.ones_like(one[1]))
        return pushed + pushes, top + pushes - pools, (sums, lows), counts

    zero = jnp.zeros((), jnp.int32)
    start = varying((zero, zero, stack[:2], stack[2]), [v])
    _, top, (sums, lows), counts = jax.lax.fori_loop(0, 2 * n, iterate, start)
    counts = jnp.where(jnp.arange(n) < top, counts[:n], 0)
    divisor = jnp.maximum(counts, 1).astype(v.dtype)
    mean = divide((sums[:n], lows[:n]), single(divisor))
    ends = jnp.cumsum(counts)
    blocks = jnp.cumsum(jnp.zeros((n,), jnp.int32).at[ends].add(jnp.where(counts > 0, 1, 0), mode="drop"))
    return blocks, mean
