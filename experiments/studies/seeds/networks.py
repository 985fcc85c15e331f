"""Two small networks for images of 8 × 8 pixels that stay fast under ``vmap`` over weights.

A vmapped convolution is a grouped convolution, which XLA runs slowly; as a matrix product over patches it becomes a
batched product, a single library call on a GPU. Time of one step of eight ``conv`` networks in a ``lax.scan``, batches
of 32, in ms of one CPU core, vmapped (in sequence): XLA's convolution 8.5 (6.8), one product per kernel entry 2.2
(2.4), one product for all nine entries 1.25 (1.3), over cells of 2 × 2 pixels, as here, 0.93 (0.89).
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from rvsmjax.nets.lenet import conv_pooled

from ...training.settings import Network


class Dense(nnx.Module):
    """64-32-10: 2,410 parameters."""

    def __init__(self, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.hidden = nnx.Linear(64, 32, rngs=rngs, param_dtype=dtype)
        self.out = nnx.Linear(32, 10, rngs=rngs, param_dtype=dtype)

    def __call__(self, x: Array) -> Array:
        """Returns class scores of shape (n, 10) for images of shape (n, 8, 8, 1)."""
        return self.out(nnx.relu(self.hidden(x.reshape(len(x), -1))))


class Convolutional(nnx.Module):
    """Two 3 × 3 convolutions of 8 and 16 channels, each pooled by 2, then 10 classes: 1,898 parameters."""

    def __init__(self, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        self.conv1 = nnx.Conv(1, 8, (3, 3), rngs=rngs, param_dtype=dtype)
        self.conv2 = nnx.Conv(8, 16, (3, 3), rngs=rngs, param_dtype=dtype)
        self.out = nnx.Linear(64, 10, rngs=rngs, param_dtype=dtype)

    def __call__(self, x: Array) -> Array:
        """Returns class scores of shape (n, 10) for images of shape (n, 8, 8, 1)."""
        x = nnx.relu(pooled(self.conv1, x))
        x = nnx.relu(pooled(self.conv2, x))
        return self.out(x.reshape(len(x), -1))


NETWORKS: dict[str, Callable[[nnx.Rngs, DTypeLike], Network]] = {"dense": Dense, "conv": Convolutional}


def pooled(conv: nnx.Conv, x: Array) -> Array:
    """Returns 2 × 2 max pooling of ``conv(x)`` as matrix products; ``conv`` has "SAME" padding."""
    margin = conv.kernel.shape[0] // 2
    padded = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    out = conv_pooled(padded, conv.kernel[...])
    return out if conv.bias is None else out + conv.bias[...]
