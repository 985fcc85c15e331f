"""Random changes of training images, on the device, each image with its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def shifted(images: Array, key: Array, most: int) -> Array:
    """Returns the images, each moved by up to ``most`` pixels along both axes, filled up with 0."""
    n, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    down, right = jax.random.randint(key, (2, n, 1), 0, 2 * most + 1)
    rows, columns = down + jnp.arange(height), right + jnp.arange(width)
    return padded[jnp.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def flipped(images: Array, key: Array) -> Array:
    """Returns the images, each turned left to right or not."""
    turn = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(turn, images[:, :, ::-1], images)
