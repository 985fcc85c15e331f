"""Error-free transformations: sums and products with their exact rounding errors."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


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
