"""Data augmentation on the device: random shifts and flips, independent for each image."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def shifted(images: Array, key: Array, limit: int) -> Array:
    """Returns the images, randomly shifted by up to ``limit`` pixels along both axes and padded with zeros."""
    n, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (limit, limit), (limit, limit), (0, 0)))
    down, right = jax.random.randint(key, (2, n, 1), 0, 2 * limit + 1)
    rows, columns = down + jnp.arange(height), right + jnp.arange(width)
    return padded[jnp.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def flipped(images: Array, key: Array) -> Array:
    """Returns the images, randomly flipped left to right."""
    flip = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)
