"""Exact global top-k by magnitude over several arrays, by counting instead of sorting.

A worked example: the two largest (k = 2) of the magnitudes 9, 4, 7, 1, 6.

1. The second largest lies between two bounds. Initially low = 0, which all 5 entries reach, and high = ∞, which none
   reaches.
2. A sorted sample suggests that it lies in [5, 8]. The range from 5 upwards is divided into bins of equal width, here
   1. Each entry is encoded as its bin index in a byte: 9 → 5, 4 → 0 (below the range), 7 → 3, 1 → 0, 6 → 2.
3. Count the entries whose byte is at least 3: exactly k = 2, so low = 7. The search ends when exactly k entries reach
   the lower bound, or when the bounds are adjacent; otherwise the next round uses finer bins.
4. The mask selects all entries that reach 7. If there are more than k, several equal the bound; the first are kept.

The bins are ranges of bit patterns: the bit patterns of non-negative floats sort in the same order as the floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax._sharding import automatic
from rvsmjax.geometry import working_dtype

SAMPLE = 16384
"""Size of the sorted sample that initializes the search."""

BINS = 255
"""Bins per round: indices 1 to 255, and 0 for everything below, fit in a byte."""


def largest(arrays: Sequence[Array], k: ArrayLike) -> list[Array]:
    """Returns masks of the k largest magnitudes over all arrays; ties go to the lowest flat index."""
    return automatic(_largest, arrays, k)


def kth_largest(arrays: Sequence[Array], k: ArrayLike) -> Array:
    """Returns the k-th largest magnitude over all arrays, a scalar; ∞ for k = 0, and 0 where there are no entries."""
    return automatic(_kth_largest, arrays, k, like=False)


@jax.jit
def _kth_largest(arrays: Sequence[Array], k: ArrayLike) -> Array:
    dtype = working_dtype(*arrays)
    arrays = [jax.lax.stop_gradient(x) for x in arrays]
    size = sum(x.size for x in arrays)
    if not size:
        return jnp.zeros((), dtype)
    k = jnp.minimum(jnp.asarray(k, jnp.int32), size)
    bounds = _search(arrays, k)
    magnitudes = [_magnitude(x, dtype) for x in arrays]
    # Exactly k entries may reach the lower bound without any being equal to it.
    top = _top(dtype)
    least = [jnp.min(jnp.where(m >= bounds.low, m, top)) for m in magnitudes if m.size]
    edge = jax.lax.bitcast_convert_type(jnp.min(jnp.stack(least)), dtype)
    return jnp.where(k > 0, edge, jnp.inf)


@jax.jit
def _largest(arrays: Sequence[Array], k: ArrayLike) -> list[Array]:
    dtype = working_dtype(*arrays)
    arrays = [jax.lax.stop_gradient(x) for x in arrays]
    size = sum(x.size for x in arrays)
    if not size:
        return [jnp.zeros(x.shape, bool) for x in arrays]
    k = jnp.minimum(jnp.asarray(k, jnp.int32), size)
    bounds = _search(arrays, k)
    edge = jnp.where(k > 0, bounds.low, _top(dtype))

    def first_tied() -> Array:
        # Keep only the first entries that equal the edge: for each array, the flat index at which to stop.
        room = k - _count([_magnitude(x, dtype) > edge for x in arrays])
        ends = []
        for x in arrays:
            tied = (_magnitude(x, dtype) == edge).ravel()
            end, count = _end_of(tied, room)
            ends.append(end)
            room = room - count
        return jnp.stack(ends)

    everywhere = jnp.asarray([x.size for x in arrays], jnp.int32)
    ends = jax.lax.cond((bounds.above_low > k) & (k > 0), first_tied, lambda: everywhere)
    masks = []
    for x, end in zip(arrays, ends, strict=True):
        index = jnp.arange(x.size, dtype=jnp.int32).reshape(x.shape)
        magnitude = _magnitude(x, dtype)
        masks.append((magnitude > edge) | ((magnitude == edge) & (index < end)))
    return masks


def _search(arrays: Sequence[Array], k: Array) -> _Bounds:
    """Returns bounds, as bit patterns, between which the k-th largest magnitude lies.

    Two bounds bracket the k-th largest: at least k entries reach the lower bound, fewer than k reach the upper. Each
    round divides the bracket into at most 255 bins, encodes each entry's bin as a byte, and locates the bin of the k-th
    largest by counting bytes, which narrows the bracket by a factor of a hundred or more. The first bounds come from a
    sorted sample, so two or three rounds suffice.
    """
    dtype = working_dtype(*arrays)
    top = _top(dtype)
    unsigned = top.dtype
    size = sum(x.size for x in arrays)

    def bin_of(b: Array, low: Array, shift: Array) -> Array:
        inner = jnp.minimum((b - low) >> shift, unsigned.type(BINS - 1)).astype(jnp.uint8) + jnp.uint8(1)
        return jnp.where(b < low, jnp.uint8(0), inner)

    def narrow(base: Array, shift: Array, bounds: _Bounds, bins: _Bounds, known: bool) -> _Bounds:
        """Narrows the bounds with bins of width 2**shift from ``base``; ``bins`` are only guesses unless ``known``."""
        # Without the barrier, XLA hoists the magnitudes out of the loop below and keeps a copy of all arrays.
        held, base = jax.lax.optimization_barrier((arrays, base))
        codes = [bin_of(_magnitude(x, dtype), base, shift) for x in held]

        def closer(carry: tuple[Array, _Bounds]) -> tuple[Array, _Bounds]:
            i, at = carry
            share = (at.above_low - k + 0.5) / jnp.maximum(at.above_low - at.above_high, 1)
            inner = at.low + ((at.high - at.low) * jnp.where(i % 3 == 2, 0.5, share)).astype(jnp.int32)
            if not known:
                inner = jnp.where(i == 0, bins.low, jnp.where(i == 1, bins.high, inner))
            trial = jnp.clip(inner, at.low + 1, at.high - 1)
            return i + 1, at.updated(trial, _count([c >= trial.astype(jnp.uint8) for c in codes]), k)

        whole = _Bounds(jnp.int32(0), jnp.int32(BINS + 1), jnp.int32(size), jnp.int32(0))
        start = (jnp.int32(0), bins if known else whole)
        _, closest = jax.lax.while_loop(lambda carry: carry[1].open(k), closer, start)

        def edge(code: Array) -> Array:
            inner = base + (jnp.maximum(code - 1, 0).astype(unsigned) << shift)
            return jnp.where(code == 0, 0, jnp.where(code > BINS, top, inner)).astype(unsigned)

        # The bins may extend beyond the bounds.
        low, high = jnp.maximum(edge(closest.low), bounds.low), jnp.minimum(edge(closest.high), bounds.high)
        return _Bounds(low, high, closest.above_low, closest.above_high)

    def again(bounds: _Bounds) -> _Bounds:
        shift = _shift(bounds.low, bounds.high)
        last = ((bounds.high - 1 - bounds.low) >> shift).astype(jnp.int32)
        bins = bounds._replace(low=jnp.int32(1), high=jnp.minimum(last, BINS - 1) + 2)
        return narrow(bounds.low, shift, bounds, bins, True)

    bounds = _Bounds(jnp.zeros((), unsigned), top, jnp.int32(size), jnp.int32(0))
    stride = max(1, size // SAMPLE) | 1
    ends = _sampled(jnp.concatenate([_magnitude(x.ravel()[::stride], dtype) for x in arrays]), k, size)
    shift = _shift(ends[0], jnp.maximum(ends[1], ends[0]) + 1)
    bounds = narrow(ends[0], shift, bounds, bounds._replace(low=jnp.int32(1), high=jnp.int32(BINS)), False)
    return jax.lax.while_loop(lambda b: b.open(k), again, bounds)


def _top(dtype: jnp.dtype) -> Array:
    """Returns the bit pattern above all magnitudes."""
    unsigned = jnp.dtype(f"uint{8 * dtype.itemsize}")
    return jnp.asarray(unsigned.type(1 << (8 * unsigned.itemsize - 1)))


def _magnitude(x: Array, dtype: jnp.dtype) -> Array:
    """Returns the bit patterns of |x|: those of non-negative floats, read as integers, sort in the same order."""
    return jax.lax.bitcast_convert_type(jnp.abs(x).astype(dtype), _top(dtype).dtype)


class _Bounds(NamedTuple):
    """Bounds on the k-th largest, and the number of entries that reach each of them."""

    low: Array
    high: Array
    above_low: Array
    above_high: Array

    def open(self, k: Array) -> Array:
        """Returns whether the search continues: non-adjacent bounds, and more than k entries reach the lower one."""
        return (self.high - self.low > 1) & (self.above_low > k)

    def updated(self, trial: Array, above: Array, k: Array) -> _Bounds:
        """Returns the bounds after testing ``trial``, which ``above`` entries reach."""
        lower = self._replace(low=trial, above_low=above)
        upper = self._replace(high=trial, above_high=above)
        return jax.tree.map(lambda a, b: jnp.where(above >= k, a, b), lower, upper)


def _shift(low: Array, high: Array) -> Array:
    """Returns the smallest s such that bins of width 2**s divide [low, high) into at most 256."""
    bits = 8 * low.dtype.itemsize
    length = bits - jax.lax.clz(high - 1 - low).astype(jnp.int32)
    return jnp.maximum(length - 8, 0).astype(low.dtype)


def _count(holds: Sequence[Array]) -> Array:
    """Returns the number of True entries over all arrays."""

    def plain(x: Array) -> Array:
        return jnp.sum(x, dtype=jnp.int32)

    def by_eighths(x: Array) -> Array:
        # On a CPU, XLA sums a comparison one entry at a time; adding slices to each other is vectorized.
        flat, part = x.ravel(), x.size // 8
        eighths = sum(flat[i * part : (i + 1) * part].astype(jnp.int8) for i in range(8))
        return plain(jax.lax.optimization_barrier(eighths)) + plain(flat[8 * part :])

    return sum((jax.lax.platform_dependent(x, cpu=by_eighths, default=plain) for x in holds), jnp.int32(0))


def _end_of(marks: Array, room: Array) -> tuple[Array, Array]:
    """Returns the longest prefix length with at most ``room`` True entries, and the total number of True entries."""
    row = 1024
    rows = jnp.pad(marks, (0, -marks.size % row if marks.size else row)).reshape(-1, row)
    # By rows first: a cumulative sum over the whole vector is slow.
    sums = jnp.cumsum(jnp.sum(jax.lax.optimization_barrier(rows.astype(jnp.int8)), axis=1, dtype=jnp.int32))
    full = jnp.sum(sums <= room, dtype=jnp.int32)
    before = jnp.where(full > 0, sums[jnp.maximum(full - 1, 0)], 0)
    rest = rows[jnp.minimum(full, len(rows) - 1)]
    inner = jnp.sum(jnp.cumsum(rest, dtype=jnp.int32) <= room - before, dtype=jnp.int32)
    return jnp.where(full == len(rows), marks.size, full * row + inner), sums[-1]


def _sampled(drawn: Array, k: Array, size: int) -> Array:
    """Returns two values that very likely bracket the k-th largest of ``size`` entries, estimated from a sample."""
    drawn = jnp.sort(drawn)
    rank = len(drawn) * (1 - k / size)
    spread = 3 * jnp.sqrt(rank * (1 - rank / len(drawn))) + 1
    ends = jnp.clip(jnp.stack([rank - spread, rank + spread]), 0, len(drawn) - 1)
    return drawn[ends.astype(jnp.int32)]
