"""LeNet in the form 20-50-500-10 of the pruning literature."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import jax
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from rvsmjax.nets.binary import STE, binary


class LeNet(nnx.Module):
    """Two 5 × 5 convolutions of 20 and 50 channels, each pooled by 2, then 500 units and 10 classes: 431,080 numbers.

    The activation comes after pooling: for a rising activation that is the same, and a quarter of the work.

    Args:
      activation: ``"relu"``, or ``"binary"`` for the units of F (the pooling is of what enters them).
      ste: what stands in for the derivative of a binary unit, see ``binary``.
      ste_scale: its factor > 0.
      rngs: for the weights.

    Raises:
      ValueError: an unknown ``activation`` or ``ste``, ``ste_scale`` <= 0.

    Source: F Table 1 ("a variation of LeNet").
    """

    def __init__(
        self,
        *,
        activation: Literal["relu", "binary"] = "relu",
        ste: STE = "relu",
        ste_scale: ArrayLike = 1.0,
        rngs: nnx.Rngs,
    ) -> None:
        if activation not in ("relu", "binary"):
            raise ValueError(f"activation must be relu or binary, got {activation!r}")
        binary(0.0, ste, ste_scale)  # complains of what does not fit
        self.activation: Callable[[Array], Array] = (
            jax.nn.relu if activation == "relu" else functools.partial(binary, ste=ste, scale=ste_scale)
        )
        self.conv1 = nnx.Conv(1, 20, (5, 5), padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(20, 50, (5, 5), padding="VALID", rngs=rngs)
        self.dense1 = nnx.Linear(800, 500, rngs=rngs)
        self.dense2 = nnx.Linear(500, 10, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Returns class scores, of shape (n, 10), of images of shape (n, 28, 28, 1)."""
        if x.ndim != 4 or x.shape[1:] != (28, 28, 1):
            raise ValueError(f"x must have shape (n, 28, 28, 1), got {x.shape}")
        x = self.activation(_pool(self.conv1(x)))
        x = self.activation(_pool(self.conv2(x)))
        x = self.activation(self.dense1(x.reshape(len(x), -1)))
        return self.dense2(x)


def _pool(x: Array) -> Array:
    """Returns the maxima of 2 × 2 squares; as a reshape, whose derivative XLA forms faster than a window's."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
