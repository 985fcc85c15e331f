"""LeNet with 20-50-500-10 units, as used in the pruning literature."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax.nets.binary import STE, binary

WIDTHS = (20, 50, 500)
"""Channels of the two convolutions and units of the hidden linear layer."""


class LeNet(nnx.Module):
    """Two 5 × 5 convolutions of 20 and 50 channels, each max-pooled by 2, then 500 units and 10 classes.

    431,080 parameters. The activation comes after pooling: for a monotone activation the result is the same at a
    quarter of the work.

    Args:
      widths: channels of the two convolutions and units of the hidden layer, each >= 1.
      activation: ``"relu"``, or ``"binary"`` for the units of F (pooling acts on the pre-activations).
      ste: straight-through estimator of a binary unit, see ``binary``.
      ste_scale: scale of that estimator, > 0.
      normalize: whether to normalize pre-activations (before the bias) to mean 0 and variance 1 over the batch;
        evaluation uses running statistics. Adds no parameters.
      rngs: random streams for the weights.

    Raises:
      ValueError: if ``activation`` or ``ste`` is unknown, ``ste_scale`` <= 0, or ``widths`` is not three numbers >= 1.

    Source: F Table 1 ("a variation of LeNet").
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = WIDTHS,
        activation: Literal["relu", "binary"] = "relu",
        ste: STE = "relu",
        ste_scale: ArrayLike = 1.0,
        normalize: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        if activation not in ("relu", "binary"):
            raise ValueError(f"activation must be relu or binary, got {activation!r}")
        _checks.integer("widths", tuple(widths), at_least=1)
        if len(widths) != len(WIDTHS):
            raise ValueError(f"widths must be {len(WIDTHS)} numbers, got {tuple(widths)}")
        binary(0.0, ste, ste_scale)  # checks both arguments
        # No closures as attributes: networks with the same settings then compare equal and share compiled code.
        self.ste, self.ste_scale = (ste if activation == "binary" else None), ste_scale
        first, second, units = widths
        self.conv1 = nnx.Conv(1, first, (5, 5), padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(first, second, (5, 5), padding="VALID", rngs=rngs)
        self.dense1 = nnx.Linear(16 * second, units, rngs=rngs)
        self.dense2 = nnx.Linear(units, 10, rngs=rngs)
        sizes = tuple(widths) if normalize else ()
        norm = functools.partial(nnx.BatchNorm, use_bias=False, use_scale=False, momentum=0.9, rngs=rngs)
        self.norms = nnx.List(map(norm, sizes))

    def __call__(self, x: Array) -> Array:
        """Returns logits of shape (n, 10) for images of shape (n, 28, 28, 1)."""
        if x.ndim != 4 or x.shape[1:] != (28, 28, 1):
            raise ValueError(f"x must have shape (n, 28, 28, 1), got {x.shape}")
        x = self._unit(0, conv_pooled(x, self.conv1.kernel[...]), self.conv1.bias)
        x = self._unit(1, conv_pooled(x, self.conv2.kernel[...]), self.conv2.bias)
        x = self._unit(2, x.reshape(len(x), -1) @ self.dense1.kernel[...], self.dense1.bias)
        return self.dense2(x)

    def activation(self, x: Array) -> Array:
        """Applies the activation function."""
        return jax.nn.relu(x) if self.ste is None else binary(x, self.ste, self.ste_scale)

    def _unit(self, layer: int, x: Array, bias: nnx.Param[Array] | None) -> Array:
        if self.norms:
            x = self.norms[layer](x)
        return self.activation(x if bias is None else x + bias[...])


def conv_pooled(x: Array, kernel: Array) -> Array:
    """Returns a convolution without padding or bias, followed by 2 × 2 max pooling.

    The four outputs of each pooling window are computed at once, as channels of one matrix product over 2 × 2 pixel
    patches: 9 slices are concatenated instead of 25. On a CPU this is 2.5 times as fast as XLA's convolution, also
    inside loops, and ``vmap`` over kernels turns it into a batched matrix product instead of a grouped convolution.

    Args:
      x: shape (n, h, w, c), h and w even.
      kernel: shape (k, k, c, o), k odd.

    Returns:
      Shape (n, (h - k + 1) / 2, (w - k + 1) / 2, o).
    """
    n, h, w, c = x.shape
    k, _, _, o = kernel.shape
    cells, side = (k + 1) // 2, (k + 1, k + 1)
    x = x.reshape(n, h // 2, 2, w // 2, 2, c).swapaxes(2, 3).reshape(n, h // 2, w // 2, 4 * c)
    h, w = h // 2 - cells + 1, w // 2 - cells + 1
    patches = jnp.concatenate([x[:, i : i + h, j : j + w] for i in range(cells) for j in range(cells)], -1)
    shifted = [jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in (0, 1) for j in (0, 1)]
    square = jnp.stack(shifted, -2).reshape(*side, c, 4 * o).reshape(cells, 2, cells, 2, c, 4 * o)
    columns = square.swapaxes(1, 2).reshape(-1, 4 * o)
    return (patches.reshape(n * h * w, -1) @ columns).reshape(n, h, w, 4, o).max(3)
