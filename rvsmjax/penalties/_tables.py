"""Arrays as tables in which their largest entries are searched: many small ones cost as much as a few large ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from rvsmjax.geometry import working_dtype

SMALL, PACK = 2**16, 2**20
"""Arrays with fewer entries are searched in tables of at most so many, since each array costs time and code."""


class Tables(NamedTuple):
    """Arrays that are searched as one, or each by itself; what belongs to a group is an entry of a vector.

    Attributes:
      tables: what is searched: large arrays as they are, so that sharded ones stay where they lie, and small ones as
        rows of a table: one after the other in one row if they are searched as one, else each in a row, filled up with
        zeros, which count only where all entries do.
      rows: the arrays in each row of each table, by number.
      packed: whether a table has rows, or is an array as it was.
      sizes: number of entries of each group.
      apart: whether each array is a group.
    """

    tables: list[Array]
    rows: list[list[list[int]]]
    packed: list[bool]
    sizes: Array
    apart: bool

    @classmethod
    def of(cls, arrays: list[Array], k: ArrayLike) -> tuple[Tables, Array]:
        """Returns the groups that k, a number or a vector, means, and k as a vector of at most their sizes."""
        apart, dtype = jnp.ndim(k) > 0, working_dtype(*arrays)
        sizes = [x.size for x in arrays]
        most = max(sizes) if apart else sum(sizes)
        if most >= 2**31:
            raise ValueError(f"leaves counted together must have fewer than 2**31 components, got {most:,}")
        tables, rows, packed = [], [], []
        for members in _by_length(sizes) if apart else _in_runs(sizes):
            whole = len(members) == 1 and sizes[members[0][0]] > 0
            rows.append(members if apart else [members[0]])
            packed.append(not whole or len(members[0]) > 1)
            tables.append(arrays[members[0][0]] if not packed[-1] else _table(arrays, members, dtype))
        groups = cls(tables, rows, packed, jnp.asarray(sizes if apart else [sum(sizes)], jnp.int32), apart)
        return groups, jnp.minimum(jnp.atleast_1d(jnp.asarray(k, jnp.int32)), groups.sizes)

    def counts(self, holds: Sequence[Array]) -> Array:
        """Returns the number of True entries of each group."""
        counted = [count(x, packed) for x, packed in zip(holds, self.packed, strict=True)]
        # The barriers keep XLA from repeating the sum in the program of each table.
        stacked = jax.lax.optimization_barrier(jnp.concatenate(counted))
        if self.apart:
            return stacked[np.argsort(self.members())]
        return jax.lax.optimization_barrier(jnp.sum(stacked, keepdims=True, dtype=stacked.dtype))

    def each(self, values: Array) -> list[Array]:
        """Returns the entries of its groups for each table, such that they broadcast."""
        if not self.apart:
            return [values[0]] * len(self.tables)
        of = [values[np.asarray([row[0] for row in rows])] for rows in self.rows]
        return [x[:, None] if packed else x[0] for x, packed in zip(of, self.packed, strict=True)]

    def unpacked(self, masks: Sequence[Array], arrays: Sequence[Array]) -> list[Array]:
        """Returns the parts of tables that belong to each array."""
        parts: dict[int, Array] = {}
        for table, rows, packed in zip(masks, self.rows, self.packed, strict=True):
            for n, row in enumerate(rows):
                ends = np.cumsum([arrays[i].size for i in row])
                for i, end in zip(row, ends, strict=True):
                    flat = table[n, end - arrays[i].size : end] if packed else table
                    parts[i] = flat.reshape(arrays[i].shape)
        return [parts[i] if i in parts else jnp.zeros(x.shape, bool) for i, x in enumerate(arrays)]

    def members(self) -> list[int]:
        """Returns the number of the array in each row, where each has its own."""
        return [row[0] for rows in self.rows for row in rows]


def _in_runs(sizes: Sequence[int]) -> list[list[list[int]]]:
    """Returns tables of one row: neighbours that are small, or one array; none for empty arrays."""
    runs: list[list[int]] = []
    open_to = 0
    for i, size in enumerate(sizes):
        if not size:
            continue
        if size < SMALL and size <= open_to:
            runs[-1].append(i)
            open_to -= size
        else:
            runs.append([i])
            open_to = PACK - size if size < SMALL else 0
    return [[run] for run in runs]


def _by_length(sizes: Sequence[int]) -> list[list[list[int]]]:
    """Returns tables of rows of nearly one length, an array each."""
    tables: dict[object, list[list[int]]] = {}
    for i, size in enumerate(sizes):
        tables.setdefault(max(size - 1, 1).bit_length() if size < SMALL else ("large", i), []).append([i])
    most = max(1, PACK // SMALL)
    return [rows[i : i + most] for rows in tables.values() for i in range(0, len(rows), most)]


def _table(arrays: Sequence[Array], members: Sequence[Sequence[int]], dtype: jnp.dtype) -> Array:
    """Returns arrays one after the other in each row, filled up with zeros."""
    rows = [[arrays[i].ravel().astype(dtype) for i in row] for row in members]
    length = max(1, *(sum(x.size for x in row) for row in rows))
    return jnp.stack([jnp.pad(jnp.concatenate(row), (0, length - sum(x.size for x in row))) for row in rows])


def count(holds: Array, by_row: bool = False) -> Array:
    """Returns the number of True entries of each row, or in all, a vector."""

    def plain(x: Array) -> Array:
        return jnp.atleast_1d(jnp.sum(x, axis=1 if by_row else None, dtype=jnp.int32))

    def by_eighths(x: Array) -> Array:
        # On a CPU, XLA sums a comparison one entry at a time; adding slices to each other is vectorized.
        x = x if by_row else x.reshape(1, -1)
        part = x.shape[1] // 8
        eighths = sum(x[:, i * part : (i + 1) * part].astype(jnp.int8) for i in range(8))
        first = jnp.sum(jax.lax.optimization_barrier(eighths), axis=1, dtype=jnp.int32)
        return first + jnp.sum(x[:, 8 * part :], axis=1, dtype=jnp.int32)

    counted: Array = jax.lax.platform_dependent(holds, cpu=by_eighths, default=plain)
    return counted
