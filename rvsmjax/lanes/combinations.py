"""Numbers of lanes over a grid."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def all_combinations(**axes: ArrayLike) -> dict[str, Array]:
    """Returns one lane for every combination of the axes' numbers, the last axis fastest.

    Args:
      **axes: one-dimensional arrays, of numbers or of keys of ``jax.random``.

    Raises:
      ValueError: if an axis has no entries or is not one-dimensional.

    Example:
      >>> numbers = all_combinations(lam=[0.1, 0.2], seed=[0, 1, 2])
      >>> numbers["seed"].tolist()
      [0, 1, 2, 0, 1, 2]
    """
    arrays = {}
    for name, axis in axes.items():
        array = axis if isinstance(axis, jax.Array) else jnp.asarray(axis)
        if array.ndim != 1 or not array.size:
            raise ValueError(f"{name} must be one-dimensional and not empty, got shape {array.shape}")
        arrays[name] = array
    index = np.indices([len(array) for array in arrays.values()]).reshape(len(arrays), -1)
    return {name: array[i] for (name, array), i in zip(arrays.items(), index, strict=True)}
