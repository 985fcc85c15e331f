"""Data augmentation on the device: shifts and flips, random for each image."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

Padding = Literal["zeros", "reflect"]
"""What fills the pixels that a shift uncovers: zeros, or the image reflected at its outermost pixels."""


def shifted(images: Array, key: Array, limit: int, padding: Padding = "zeros") -> Array:
    """Returns the images, randomly shifted by up to ``limit`` pixels along both axes."""
    n, height, width, _ = images.shape
    mode = "constant" if padding == "zeros" else "reflect"
    padded = jnp.pad(images, ((0, 0), (limit, limit), (limit, limit), (0, 0)), mode=mode)
    down, right = jax.random.randint(key, (2, n, 1), 0, 2 * limit + 1)
    rows, columns = down + jnp.arange(height), right + jnp.arange(width)
    return padded[jnp.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def flipped(images: Array, key: Array) -> Array:
    """Returns the images, randomly flipped left to right."""
    flip = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)


@jax.jit
def alternated(images: Array, key: Array, epoch: Array) -> Array:
    """Returns the images of an epoch: each is mirrored in the even or in the odd epochs, at random by the key.

    Source: K. Jordan (arXiv 2404.00498).
    """
    even = jax.random.bernoulli(jax.random.fold_in(key, 2**32 - 1), shape=(len(images), 1, 1, 1))  # is no epoch
    return jnp.where(even ^ (epoch % 2 == 1), images[:, :, ::-1], images)
