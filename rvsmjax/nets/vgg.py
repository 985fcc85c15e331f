"""VGG-16 with batch normalisation and the small head of the CIFAR experiments."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from rvsmjax import _checks
from rvsmjax.nets.resnet import Init, convolution, linear

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions between two poolings."""


class VGG16(nnx.Module):
    """Thirteen normalised 3 × 3 convolutions in five stages, each pooled by 2, then a linear layer: 14,728,266 numbers.

    Args:
      classes: classes >= 1.
      width: channels of the first stage >= 1; the others in proportion.
      channels: of each convolution, >= 1, where they are others (see ``shrink``); ``width`` has no effect then.
      dtype: of the computation; parameters and running means are float32.
      init: how weights are drawn, ``"he"`` or ``"torch"``, see ``ResNet``.
      rngs: for the weights.

    Raises:
      ValueError: a number under 1, ``channels`` that are no thirteen numbers, an unknown ``init``; in use, an ``x``
        that is no batch of images of 32 × 32 pixels and three channels.

    Source: I Table 1.
    """

    def __init__(
        self,
        *,
        classes: int = 10,
        width: int = 64,
        channels: Sequence[int] | None = None,
        dtype: DTypeLike | None = None,
        init: Init = "he",
        rngs: nnx.Rngs,
    ) -> None:
        _checks.integer("classes", classes, at_least=1)
        _checks.integer("width", width, at_least=1)
        wide = [wide * width // 64 for stage in STAGES for wide in stage]
        sizes = wide if channels is None else list(channels)
        _checks.integer("channels", sizes, at_least=1)
        if len(sizes) != len(wide):
            raise ValueError(f"channels must be {len(wide)} numbers, got {sizes}")
        convs, norms = [], []
        for before, out in zip([3, *sizes], sizes, strict=False):
            convs.append(convolution(before, out, 3, bias=True, dtype=dtype, init=init, rngs=rngs))
            norms.append(nnx.BatchNorm(out, momentum=0.9, dtype=dtype, rngs=rngs))
        self.convs, self.norms = nnx.List(convs), nnx.List(norms)
        self.head = linear(sizes[-1], classes, dtype=dtype, init=init, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Returns class scores, of shape (n, classes), of images of shape (n, 32, 32, 3)."""
        if x.ndim != 4 or x.shape[1:] != (32, 32, 3):
            raise ValueError(f"x must have shape (n, 32, 32, 3), got {x.shape}")
        layers = iter(zip(self.convs, self.norms, strict=True))
        for stage in STAGES:
            for _ in stage:
                conv, norm = next(layers)
                x = jax.nn.relu(norm(conv(x)))
            n, h, w, c = x.shape
            x = x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
        return self.head(x.reshape(len(x), -1))
