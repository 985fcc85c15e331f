"""Residual networks for 32 × 32 images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from rvsmjax import _checks
from rvsmjax.nets.batch_norm import BatchNorm
from rvsmjax.nets.convolution import convolve

Init = Literal["he", "torch"]
"""Weight initialization. ``"he"``: convolutions normal with variance 2/fan_out, which preserves the variance of
gradients through a convolution and a ReLU; linear layers as in Flax; biases 0. ``"torch"``: PyTorch's default, weights
and biases uniform on ±1/√fan_in."""
INITS = ("he", "torch")

LECUN, ZEROS = jax.nn.initializers.lecun_normal(), jax.nn.initializers.zeros
HE = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")
UNIFORM = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Uniform on ±1/√fan_in, equivalent to PyTorch's ``kaiming_uniform_`` with a = √5."""


class ResNet(nnx.Module):
    """A 3 × 3 convolution, stages of basic blocks, global average pooling and a linear layer.

    Each stage after the first halves the image size and doubles the width.

    Args:
      blocks: number of basic blocks, of two convolutions each, in each stage.
      width: channels of the first stage, >= 1.
      classes: number of classes, >= 1.
      dtype: dtype of the computation; parameters and running statistics are float32.
      init: weight initialization, ``"he"`` or ``"torch"``, see ``Init``.
      rngs: random streams for the weights.

    Raises:
      ValueError: if a number is < 1 or ``init`` is unknown; when called, if ``x`` does not have shape (n, h, w, 3).

    Source: I Table 2; the variant for small images in the authors' released code.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[int] = (2, 2, 2, 2),
        width: int = 64,
        classes: int = 10,
        dtype: DTypeLike | None = None,
        init: Init = "he",
        rngs: nnx.Rngs,
    ) -> None:
        for number in blocks:
            _checks.integer("blocks", number, at_least=1)
        _checks.integer("width", width, at_least=1)
        _checks.integer("classes", classes, at_least=1)
        self.conv = convolution(3, width, 3, dtype=dtype, init=init, rngs=rngs)
        self.norm = BatchNorm(width, momentum=0.9, dtype=dtype, rngs=rngs)
        stages, channels = [], width
        for stage, number in enumerate(blocks):
            out = width * 2**stage
            for index in range(number):
                stride = 2 if stage and not index else 1
                stages.append(BasicBlock(channels, out, stride, dtype=dtype, init=init, rngs=rngs))
                channels = out
        self.blocks = nnx.List(stages)
        self.head = linear(channels, classes, dtype=dtype, init=init, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Returns logits of shape (n, classes) for images of shape (n, h, w, 3)."""
        if x.ndim != 4 or x.shape[-1] != 3:
            raise ValueError(f"x must have shape (n, h, w, 3), got {x.shape}")
        x = jax.nn.relu(self.norm(self.conv(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


ResNet18 = functools.partial(ResNet, blocks=(2, 2, 2, 2), width=64)
"""11,173,962 parameters with 10 classes."""


class BasicBlock(nnx.Module):
    """Two batch-normalized 3 × 3 convolutions plus a shortcut: a 1 × 1 convolution if the shape changes."""

    def __init__(
        self, channels: int, out: int, stride: int, *, dtype: DTypeLike | None, init: Init, rngs: nnx.Rngs
    ) -> None:
        norm = functools.partial(BatchNorm, out, momentum=0.9, dtype=dtype, rngs=rngs)
        self.conv1 = convolution(channels, out, 3, stride, dtype=dtype, init=init, rngs=rngs)
        self.norm1 = norm()
        self.conv2 = convolution(out, out, 3, dtype=dtype, init=init, rngs=rngs)
        self.norm2 = norm()
        changes = stride > 1 or channels != out
        self.shortcut = convolution(channels, out, 1, stride, dtype=dtype, init=init, rngs=rngs) if changes else None
        self.shortcut_norm = norm() if changes else None

    def __call__(self, x: Array) -> Array:
        """Returns shape (n, h / stride, w / stride, out)."""
        y = jax.nn.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.shortcut is not None and self.shortcut_norm is not None:
            x = self.shortcut_norm(self.shortcut(x))
        return jax.nn.relu(y + x)


def convolution(
    channels: int,
    out: int,
    side: int,
    stride: int = 1,
    *,
    bias: bool = False,
    dtype: DTypeLike | None,
    init: Init,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """Returns a convolution with ``side // 2`` pixels of zero padding on each side, whatever the stride."""
    if init not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}, got {init!r}")
    edge = side // 2
    return nnx.Conv(
        channels,
        out,
        (side, side),
        stride,
        padding=((edge, edge),) * 2,
        use_bias=bias,
        kernel_init=HE if init == "he" else UNIFORM,
        bias_init=ZEROS if init == "he" else uniform(side * side * channels),
        conv_general_dilated=convolve,
        dtype=dtype,
        rngs=rngs,
    )


def linear(inputs: int, out: int, *, dtype: DTypeLike | None, init: Init, rngs: nnx.Rngs) -> nnx.Linear:
    """Returns a linear layer with bias."""
    kernel_init, bias_init = (LECUN, ZEROS) if init == "he" else (UNIFORM, uniform(inputs))
    return nnx.Linear(inputs, out, kernel_init=kernel_init, bias_init=bias_init, dtype=dtype, rngs=rngs)


@functools.cache  # layers with the same settings then compare equal and share compiled code
def uniform(fan_in: int) -> Callable[..., Array]:
    """Returns an initializer that samples uniformly from ±1/√fan_in."""
    bound = fan_in**-0.5

    def draw(key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, **kwargs: object) -> Array:
        del kwargs  # a sharding, which Flax may pass
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw
