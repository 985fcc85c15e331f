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

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from rvsmjax._sharding import automatic, varying
from rvsmjax.geometry import working_dtype
from rvsmjax.penalties._tables import Tables

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
    found = jax.lax.bitcast_convert_type(_search(*Tables.of(arrays, k), exact=True).low, dtype)
    return found if jnp.ndim(k) else found[0]


@jax.jit
def _largest(arrays: Sequence[Array], k: ArrayLike) -> list[Array]:
    dtype = working_dtype(*arrays)
    arrays = [jax.lax.stop_gradient(x) for x in arrays]
    if not sum(x.size for x in arrays):
        return [jnp.zeros(x.shape, bool) for x in arrays]
    groups, k = Tables.of(arrays, k)
    bounds = _search(groups, k)
    edges = groups.each(jnp.where(k > 0, bounds.low, _top(dtype)))

    def first_tied() -> list[Array]:
        # Keep only the first entries that equal the edge: for each row, the index at which to stop.
        magnitudes = [_magnitude(x, dtype) for x in groups.tables]
        pairs = list(zip(magnitudes, edges, strict=True))
        room = k - groups.counts([m > edge for m, edge in pairs])
        return _ends(groups, [m == edge for m, edge in pairs], room)

    everywhere = [
        jnp.full(len(rows), x.size // len(rows), jnp.int32) for x, rows in zip(groups.tables, groups.rows, strict=True)
    ]
    tied = jnp.any((bounds.above_low > k) & (k > 0))
    ends = jax.lax.cond(tied, first_tied, lambda: varying(everywhere, arrays))
    masks = []
    for x, edge, end, packed in zip(groups.tables, edges, ends, groups.packed, strict=True):
        index = jnp.arange(x.size // len(end), dtype=jnp.int32)
        index, end = (index[None], end[:, None]) if packed else (index.reshape(x.shape), end[0])
        magnitude = _magnitude(x, dtype)
        masks.append((magnitude > edge) | ((magnitude == edge) & (index < end)))
    return groups.unpacked(masks, arrays)


def _search(groups: Tables, k: Array, exact: bool = False) -> _Bounds:
    """Returns bounds, as bit patterns, between which the k-th largest magnitude of each group lies.

    Two bounds bracket the k-th largest: at least k entries reach the lower bound, fewer than k reach the upper. Each
    round divides the bracket into at most 255 bins, encodes each entry's bin as a byte, and locates the bin of the k-th
    largest by counting bytes, which narrows the bracket by a factor of a hundred or more. The first bounds come from a
    sorted sample, so two or three rounds suffice. Unless the k-th largest is wanted itself, ``exact``, the search ends
    when exactly k entries reach the lower bound.
    """
    arrays = groups.tables
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


def _ends(groups: Tables, marks: Sequence[Array], room: Array) -> list[Array]:
    """Returns for each row of each table how many of its first entries hold the first ``room`` True ones of its group.

    By parts of a row first: a cumulative sum over a whole row is slow.
    """
    ends = []
    before: Array = jnp.zeros(1, jnp.int32)
    for mark, rows in zip(marks, groups.rows, strict=True):
        flat = mark.reshape(len(rows), -1)
        length = flat.shape[1]
        parts = jnp.pad(flat, ((0, 0), (0, -length % ROW))).reshape(len(rows), -1, ROW)
        sums = jnp.sum(jax.lax.optimization_barrier(parts.astype(jnp.int8)), axis=2, dtype=jnp.int32)
        reached = jnp.cumsum(sums, axis=1, dtype=jnp.int32)
        left = room[np.asarray([row[0] for row in rows])] if groups.apart else jnp.maximum(room - before, 0)
        full = jnp.sum(reached <= left[:, None], axis=1, dtype=jnp.int32)
        held = jnp.pad(reached, ((0, 0), (1, 0)))
        at = functools.partial(jnp.take_along_axis, axis=1)
        rest = left - at(held, full[:, None])[:, 0]
        last = at(parts, jnp.minimum(full, parts.shape[1] - 1)[:, None, None])[:, 0]
        inner = jnp.sum(jnp.cumsum(last, axis=1, dtype=jnp.int32) <= rest[:, None], axis=1, dtype=jnp.int32)
        ends.append(jnp.where(full == parts.shape[1], length, full * ROW + inner).astype(jnp.int32))
        before = before if groups.apart else before + reached[:, -1]
    return ends


def _sampled(groups: Tables, k: Array) -> tuple[Array, Array]:
    """Returns two values for each group that very likely bracket its k-th largest, estimated from a sample."""
    dtype = working_dtype(*groups.tables)
    lengths: ArrayLike
    sizes: ArrayLike = groups.sizes
    if groups.apart:
        by_row = [x.reshape(len(rows), -1) for x, rows in zip(groups.tables, groups.rows, strict=True)]
        drawn = [x[:, :: max(1, x.shape[1] // SAMPLE) | 1] for x in by_row]
        length = max(x.shape[1] for x in drawn)
        filled = [
            jnp.pad(_magnitude(x, dtype), ((0, 0), (0, length - x.shape[1])), constant_values=_top(dtype))
            for x in drawn
        ]
        order = np.argsort(groups.members())
        table = jnp.concatenate(filled)[order]
        lengths, sizes = (
            np.concatenate([np.full(len(x), x.shape[1], np.float32) for x in parts])[order] for parts in (drawn, by_row)
        )
    else:
        stride = max(1, sum(x.size for x in groups.tables) // SAMPLE) | 1
        table = jnp.concatenate([_magnitude(x.ravel()[::stride], dtype) for x in groups.tables])[None]
        lengths = np.asarray([table.size], np.float32)
    # With the zeros that fill a row up, the k-th largest is the same.
    rank = lengths * (1 - k / jnp.maximum(sizes, 1))
    spread = 3 * jnp.sqrt(rank * (1 - rank / jnp.maximum(lengths, 1))) + 1
    ranks = (jnp.clip(at, 0, jnp.maximum(lengths - 1, 0)) for at in (rank - spread, rank + spread))
    table = jnp.sort(table, axis=1)
    low, high = (jnp.take_along_axis(table, at.astype(jnp.int32)[:, None], axis=1)[:, 0] for at in ranks)
    return low, high
