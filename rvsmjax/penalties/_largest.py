"""Exact top-k by magnitude over several arrays or in each of them, by counting instead of sorting.

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
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from rvsmjax._sharding import automatic, varying
from rvsmjax.geometry import working_dtype

SAMPLE = 1024
"""Size of the sorted sample that initializes the search."""

BINS = 255
"""Bins per round: indices 1 to 255, and 0 for everything below, fit in a byte."""

ROW = 1024
"""Entries of which ties are first counted together."""


def largest(arrays: Sequence[Array], k: ArrayLike) -> list[Array]:
    """Returns masks of the k largest magnitudes; ties go to the lowest flat index.

    Args:
      arrays: arrays of any shapes.
      k: a number, for all arrays together, or a vector with one for each.
    """
    return automatic(_largest, arrays, k)


def kth_largest(arrays: Sequence[Array], k: ArrayLike) -> Array:
    """Returns the k-th largest magnitude over all arrays, or those of each if k is a vector; 0 where there are none.

    k >= 1.
    """
    return automatic(_kth_largest, arrays, k, like=False)


@jax.jit
def _kth_largest(arrays: Sequence[Array], k: ArrayLike) -> Array:
    dtype = working_dtype(*arrays)
    arrays = [jax.lax.stop_gradient(x) for x in arrays]
    if not sum(x.size for x in arrays):
        return jnp.zeros(jnp.shape(k), dtype)
    found = jax.lax.bitcast_convert_type(_search(*_Groups.of(arrays, k), exact=True).low, dtype)
    return found if jnp.ndim(k) else found[0]


@jax.jit
def _largest(arrays: Sequence[Array], k: ArrayLike) -> list[Array]:
    dtype = working_dtype(*arrays)
    arrays = [jax.lax.stop_gradient(x) for x in arrays]
    if not sum(x.size for x in arrays):
        return [jnp.zeros(x.shape, bool) for x in arrays]
    groups, k = _Groups.of(arrays, k)
    bounds = _search(groups, k)
    edges = groups.each(jnp.where(k > 0, bounds.low, _top(dtype)))

    def first_tied() -> Array:
        # Keep only the first entries that equal the edge: for each array, the flat index at which to stop.
        magnitudes = [_magnitude(x, dtype) for x in arrays]
        pairs = list(zip(magnitudes, edges, strict=True))
        room = k - groups.counts([m > edge for m, edge in pairs])
        return _ends(groups, [m == edge for m, edge in pairs], room)

    everywhere = jnp.asarray([x.size for x in arrays], jnp.int32)
    tied = jnp.any((bounds.above_low > k) & (k > 0))
    ends = jax.lax.cond(tied, first_tied, lambda: varying(everywhere, arrays))
    masks = []
    for x, edge, end in zip(arrays, edges, ends, strict=True):
        index = jnp.arange(x.size, dtype=jnp.int32).reshape(x.shape)
        magnitude = _magnitude(x, dtype)
        masks.append((magnitude > edge) | ((magnitude == edge) & (index < end)))
    return masks


class _Groups(NamedTuple):
    """Arrays that are searched as one, or each by itself; what belongs to a group is an entry of a vector."""

    arrays: list[Array]
    apart: bool

    @classmethod
    def of(cls, arrays: list[Array], k: ArrayLike) -> tuple[_Groups, Array]:
        """Returns the groups that k, a number or a vector, means, and k as a vector of at most their sizes."""
        groups = cls(arrays, jnp.ndim(k) > 0)
        most = max(x.size for x in arrays) if groups.apart else sum(x.size for x in arrays)
        if most >= 2**31:
            raise ValueError(f"leaves counted together must have fewer than 2**31 components, got {most:,}")
        return groups, jnp.minimum(jnp.atleast_1d(jnp.asarray(k, jnp.int32)), groups.sizes)

    @property
    def sizes(self) -> Array:
        """Returns the number of entries of each group."""
        return self.total([jnp.asarray(x.size, jnp.int32) for x in self.arrays])

    def total(self, values: Sequence[Array]) -> Array:
        """Returns the sums over each group of one value per array."""
        # The barriers keep XLA from repeating the sum in the program of each array.
        stacked = jax.lax.optimization_barrier(jnp.stack(list(values)))
        if self.apart:
            return stacked
        return jax.lax.optimization_barrier(jnp.sum(stacked, keepdims=True, dtype=stacked.dtype))

    def counts(self, holds: Sequence[Array]) -> Array:
        """Returns the number of True entries of each group."""
        return self.total(_count(holds))

    def each(self, values: Array) -> list[Array]:
        """Returns the entry of its group for each array."""
        return list(values) if self.apart else [values[0]] * len(self.arrays)


def _search(groups: _Groups, k: Array, exact: bool = False) -> _Bounds:
    """Returns bounds, as bit patterns, between which the k-th largest magnitude of each group lies.

    Two bounds bracket the k-th largest: at least k entries reach the lower bound, fewer than k reach the upper. Each
    round divides the bracket into at most 255 bins, encodes each entry's bin as a byte, and locates the bin of the k-th
    largest by counting bytes, which narrows the bracket by a factor of a hundred or more. The first bounds come from a
    sorted sample, so two or three rounds suffice. Unless the k-th largest is wanted itself, ``exact``, the search ends
    when exactly k entries reach the lower bound.
    """
    arrays = groups.arrays
    dtype = working_dtype(*arrays)
    top = _top(dtype)
    unsigned = top.dtype
    zero = varying(jnp.zeros_like(k), arrays)

    def bin_of(b: Array, low: Array, shift: Array) -> Array:
        inner = jnp.minimum((b - low) >> shift, unsigned.type(BINS - 1)).astype(jnp.uint8) + jnp.uint8(1)
        return jnp.where(b < low, jnp.uint8(0), inner)

    def narrow(at: _Round) -> _Round:
        base, shift, bounds = at.base, at.shift, at.bounds
        # Without the barrier, XLA hoists the magnitudes out of the loop below and keeps a copy of all arrays.
        held, base = jax.lax.optimization_barrier((arrays, base))
        triples = zip(held, groups.each(base), groups.each(shift), strict=True)
        codes = [bin_of(_magnitude(x, dtype), low, by) for x, low, by in triples]

        def closer(carry: tuple[Array, _Bounds]) -> tuple[Array, _Bounds]:
            i, now = carry
            share = (now.above_low - k + 0.5) / jnp.maximum(now.above_low - now.above_high, 1)
            inner = now.low + ((now.high - now.low) * jnp.where(i % 3 == 2, 0.5, share)).astype(jnp.int32)
            guess = jnp.where(i == 0, at.bins.low, jnp.where(i == 1, at.bins.high, inner))
            trial = jnp.clip(jnp.where(at.known, inner, guess), now.low + 1, now.high - 1)
            edges = groups.each(trial.astype(jnp.uint8))
            above = groups.counts([c >= edge for c, edge in zip(codes, edges, strict=True)])
            return i + 1, now.updated(trial, above, k, exact)

        whole = _Bounds(zero, zero + BINS + 1, groups.sizes, zero)
        start = jax.tree.map(lambda a, b: jnp.where(at.known, a, b), at.bins, whole)
        start = varying(start, arrays)
        _, closest = jax.lax.while_loop(lambda carry: jnp.any(carry[1].open(k, exact)), closer, (jnp.int32(0), start))

        def edge(code: Array) -> Array:
            inner = base + (jnp.maximum(code - 1, 0).astype(unsigned) << shift)
            return jnp.where(code == 0, 0, jnp.where(code > BINS, top, inner)).astype(unsigned)

        # The bins may extend beyond the bounds.
        low, high = jnp.maximum(edge(closest.low), bounds.low), jnp.minimum(edge(closest.high), bounds.high)
        found = _Bounds(low, high, closest.above_low, closest.above_high)
        bounds = jax.tree.map(lambda a, b: jnp.where(bounds.open(k, exact), a, b), found, bounds)
        shift = _shift(bounds.low, bounds.high)
        last = ((bounds.high - 1 - bounds.low) >> shift).astype(jnp.int32)
        bins = bounds._replace(low=zero + 1, high=jnp.minimum(last, BINS - 1) + 2)
        return _Round(bounds, bounds.low, shift, bins, jnp.array(True))

    low, high = _sampled(groups, k)
    bounds = _Bounds(jnp.zeros(k.shape, unsigned), jnp.full(k.shape, top), groups.sizes, zero)
    guess = bounds._replace(low=zero + 1, high=zero + BINS)
    first = _Round(bounds, low, _shift(low, jnp.maximum(low, high) + 1), guess, jnp.array(False))
    first = varying(first, arrays)._replace(known=first.known)
    return jax.lax.while_loop(lambda at: jnp.any(at.bounds.open(k, exact)), narrow, first).bounds


class _Round(NamedTuple):
    """A round of the search: bins of width 2**shift from ``base``, those to search in, and whether they are certain."""

    bounds: _Bounds
    base: Array
    shift: Array
    bins: _Bounds
    known: Array


def _top(dtype: jnp.dtype) -> Array:
    """Returns the bit pattern above all magnitudes."""
    unsigned = jnp.dtype(f"uint{8 * dtype.itemsize}")
    return jnp.asarray(unsigned.type(1 << (8 * unsigned.itemsize - 1)))


def _magnitude(x: Array, dtype: jnp.dtype) -> Array:
    """Returns the bit patterns of |x|: those of non-negative floats, read as integers, sort in the same order."""
    return jax.lax.bitcast_convert_type(jnp.abs(x).astype(dtype), _top(dtype).dtype)


class _Bounds(NamedTuple):
    """Bounds on the k-th largest, and the number of entries that reach each of them; vectors, an entry per group."""

    low: Array
    high: Array
    above_low: Array
    above_high: Array

    def open(self, k: Array, exact: bool) -> Array:
        """Returns whether the search continues: no adjacent bounds, and more than k entries reach the lower one."""
        return (self.high - self.low > 1) & (exact | (self.above_low > k))

    def updated(self, trial: Array, above: Array, k: Array, exact: bool) -> _Bounds:
        """Returns the bounds after testing ``trial``, which ``above`` entries reach; the same where they are found."""
        lower, upper = self.open(k, exact) & (above >= k), self.open(k, exact) & (above < k)
        return _Bounds(
            jnp.where(lower, trial, self.low),
            jnp.where(upper, trial, self.high),
            jnp.where(lower, above, self.above_low),
            jnp.where(upper, above, self.above_high),
        )


def _shift(low: Array, high: Array) -> Array:
    """Returns the smallest s such that bins of width 2**s divide [low, high) into at most 256."""
    bits = 8 * low.dtype.itemsize
    length = bits - jax.lax.clz(high - 1 - low).astype(jnp.int32)
    return jnp.maximum(length - 8, 0).astype(low.dtype)


def _count(holds: Sequence[Array]) -> list[Array]:
    """Returns the number of True entries of each array."""

    def plain(x: Array) -> Array:
        return jnp.sum(x, dtype=jnp.int32)

    def by_eighths(x: Array) -> Array:
        # On a CPU, XLA sums a comparison one entry at a time; adding slices to each other is vectorized.
        flat, part = x.ravel(), x.size // 8
        eighths = sum(flat[i * part : (i + 1) * part].astype(jnp.int8) for i in range(8))
        return plain(jax.lax.optimization_barrier(eighths)) + plain(flat[8 * part :])

    return [jax.lax.platform_dependent(x, cpu=by_eighths, default=plain) for x in holds]


def _ends(groups: _Groups, marks: Sequence[Array], room: Array) -> Array:
    """Returns for each array how many of its first entries hold the first ``room`` True entries of its group."""
    # By rows first: a cumulative sum over the whole vector is slow.
    rows = [jnp.pad(m.ravel(), (0, -m.size % ROW if m.size else ROW)).reshape(-1, ROW) for m in marks]
    sums = [jnp.sum(jax.lax.optimization_barrier(r.astype(jnp.int8)), axis=1, dtype=jnp.int32) for r in rows]
    lengths = np.asarray([len(r) for r in rows])
    lasts = np.cumsum(lengths)
    starts = lasts - lengths

    def cumulative(values: Array) -> Array:
        return jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(values, dtype=jnp.int32)])

    def along_rows(values: Array) -> Array:
        return jnp.repeat(values, lengths, total_repeat_length=int(lasts[-1])) if groups.apart else values

    reached = cumulative(jnp.concatenate(sums))
    base = reached[starts] if groups.apart else jnp.zeros(1, jnp.int32)
    fits = cumulative(reached[1:] - along_rows(base) <= along_rows(room))
    full = jax.lax.optimization_barrier(fits[lasts] - fits[starts])
    rest = room + base - reached[starts + full]
    firsts = jnp.stack([r[at] for r, at in zip(rows, jnp.minimum(full, lengths - 1), strict=True)])
    inner = jnp.sum(jnp.cumsum(firsts, axis=1, dtype=jnp.int32) <= rest[:, None], axis=1, dtype=jnp.int32)
    sizes = np.asarray([m.size for m in marks])
    return jnp.where(full == lengths, sizes, full * ROW + inner).astype(jnp.int32)


def _sampled(groups: _Groups, k: Array) -> tuple[Array, Array]:
    """Returns two values for each group that very likely bracket its k-th largest, estimated from a sample."""
    arrays, dtype = groups.arrays, working_dtype(*groups.arrays)
    size = sum(x.size for x in arrays)
    strides = [max(1, (x.size if groups.apart else size) // SAMPLE) | 1 for x in arrays]
    drawn = [_magnitude(x.ravel()[::stride], dtype) for x, stride in zip(arrays, strides, strict=True)]
    if groups.apart:
        length = max(len(own) for own in drawn)
        table = jnp.stack([jnp.pad(own, (0, length - len(own)), constant_values=_top(dtype)) for own in drawn])
        lengths = jnp.asarray([len(own) for own in drawn], jnp.float32)
    else:
        table = jnp.concatenate(drawn)[None]
        lengths = jnp.asarray([table.size], jnp.float32)
    rank = lengths * (1 - k / jnp.maximum(groups.sizes, 1))
    spread = 3 * jnp.sqrt(rank * (1 - rank / jnp.maximum(lengths, 1))) + 1
    ranks = (jnp.clip(at, 0, jnp.maximum(lengths - 1, 0)) for at in (rank - spread, rank + spread))
    table = jnp.sort(table, axis=1)
    low, high = (jnp.take_along_axis(table, at.astype(jnp.int32)[:, None], axis=1)[:, 0] for at in ranks)
    return low, high
