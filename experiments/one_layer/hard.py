"""Hard thresholding that keeps s components, as in the papers; independent of ``rvsmjax.TopK``."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def keep_largest(v: Array, s: Array) -> Array:
    """Returns H_s(v); equals ``TopK``, but compares all pairs, which is faster for short vectors."""
    size = jnp.abs(v)
    before = jnp.arange(len(v))[None] < jnp.arange(len(v))[:, None]
    ahead = (size[None] > size[:, None]) | ((size[None] == size[:, None]) & before)
    return jnp.where(jnp.sum(ahead, -1) < s, v, 0)
