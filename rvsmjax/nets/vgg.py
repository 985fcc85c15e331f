"""VGG with batch normalization and the single-layer head of the CIFAR experiments."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from rvsmjax import _checks
from rvsmjax.nets.batch_norm import BatchNorm
from rvsmjax.nets.resnet import Init, convolution, linear

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the convolutions of each stage; every stage ends in a max pooling."""


class VGG(nnx.Module):
    """Batch-normalized 3 × 3 convolutions in five stages, each max-pooled by 2, and a linear layer.

    Args:
      stages: number of convolutions in each of the five stages, each >= 1.
      classes: number of classes, >= 1.
      width: channels of the first stage, >= 1; the other stages scale with it.
      channels: channels of each convolution, each >= 1; overrides ``width``.
      dtype: dtype of the computation; parameters and running statistics are float32.
      init: weight initialization, ``"he"`` or ``"torch"``, see ``ResNet``.
      rngs: random streams for the weights.

    Raises:
      ValueError: if a number is < 1, ``stages`` is not five numbers, ``channels`` not one for each convolution, or
        ``init`` is unknown; when called, if ``x`` does not have shape (n, 32, 32, 3).

    Source: I Table 1.
    """

    def __init__(
        self,
        *,
        stages: Sequence[int] = (2, 2, 3, 3, 3),
        classes: int = 10,
        width: int = 64,
        channels: Sequence[int] | None = None,
        dtype: DTypeLike | None = None,
        init: Init = "he",
        rngs: nnx.Rngs,
    ) -> None:
        _checks.integer("stages", stages, at_least=1)
        if len(stages) != len(WIDTHS):
            raise ValueError(f"stages must be {len(WIDTHS)} numbers, got {stages}")
        _checks.integer("classes", classes, at_least=1)
        _checks.integer("width", width, at_least=1)
        self.stages = tuple(stages)
        wide = [out * width // 64 for number, out in zip(stages, WIDTHS, strict=True) for _ in range(number)]
        sizes = wide if channels is None else list(channels)
        _checks.integer("channels", sizes, at_least=1)
        if len(sizes) != len(wide):
            raise ValueError(f"channels must be {len(wide)} numbers, got {sizes}")
        convs, norms = [], []
        for before, out in zip([3, *sizes], sizes, strict=False):
            convs.append(convolution(before, out, 3, bias=True, dtype=dtype, init=init, rngs=rngs))
            norms.append(BatchNorm(out, momentum=0.9, dtype=dtype, rngs=rngs))
        self.convs, self.norms = nnx.List(convs), nnx.List(norms)
        self.head = linear(sizes[-1], classes, dtype=dtype, init=init, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Returns logits of shape (n, classes) for images of shape (n, 32, 32, 3)."""
        if x.ndim != 4 or x.shape[1:] != (32, 32, 3):
            raise ValueError(f"x must have shape (n, 32, 32, 3), got {x.shape}")
        layers = iter(zip(self.convs, self.norms, strict=True))
        for number in self.stages:
            for _ in range(number):
                conv, norm = next(layers)
                x = jax.nn.relu(norm(conv(x)))
            n, h, w, c = x.shape
            x = x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
        return self.head(x.reshape(len(x), -1))


VGG16 = functools.partial(VGG, stages=(2, 2, 3, 3, 3))
"""14,728,266 parameters with 10 classes."""
VGG19 = functools.partial(VGG, stages=(2, 2, 4, 4, 4))
"""20,040,522 parameters with 10 classes."""
