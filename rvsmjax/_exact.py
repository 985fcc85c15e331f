"""Sums and products with their exact rounding errors, and counts of any size."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

LARGEST = 2**31 - 1
"""The largest count in int32."""
Words = tuple[Array, Array]
"""A whole number as its high and low 32 bits."""


def two_sum(x: Array, y: Array) -> tuple[Array, Array]:
    """Returns x + y rounded, and the rounding error (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def two_product(x: Array, y: Array) -> tuple[Array, Array]:
    """Returns x·y rounded, and the rounding error (Dekker)."""
    (x1, x2), (y1, y2) = _halves(x), _halves(y)
    product = x * y
    return product, ((x1 * y1 - product) + x1 * y2 + x2 * y1) + x2 * y2


def _halves(x: Array) -> tuple[Array, Array]:
    bits = (jnp.finfo(x.dtype).nmant + 2) // 2
    scaled = x * (2.0**bits + 1)
    head = scaled - (scaled - x)
    return head, x - head


def count(leaves: Sequence[Array]) -> Array:
    """Returns how many components of boolean arrays are True.

    An int32; a float32, rounded once the count is known exactly, if there are 2³¹ components or more.
    """
    if sum(leaf.size for leaf in leaves) <= LARGEST:
        return sum((jnp.sum(leaf, dtype=jnp.int32) for leaf in leaves), jnp.int32(0))
    high = low = jnp.uint32(0)
    for leaf in leaves:
        ones = leaf.astype(jnp.uint32)
        none = (jnp.uint32(0), jnp.uint32(0))
        part = jax.lax.reduce((jnp.zeros_like(ones), ones), none, _add, tuple(range(leaf.ndim)))
        high, low = _add((high, low), part)
    return high.astype(jnp.float32) * 2.0**32 + low.astype(jnp.float32)


def _add(x: Words, y: Words) -> Words:
    low = x[1] + y[1]
    return x[0] + y[0] + (low < x[1]).astype(low.dtype), low
