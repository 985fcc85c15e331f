"""Recipes for LeNet."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jax import Array

from rvsmjax.nets import STE, LeNet, LeNet300
from rvsmjax.transforms import Mask

from ...training.augment import shifted
from ...training.recipes import Recipe

INPUT_MEAN, INPUT_SCALE = 0.1307, 0.3081
"""Mean and standard deviation of MNIST's training pixels in [0, 1]."""

PARAMETERS = 431_080
"""Number of parameters of LeNet 20-50-500-10, with biases."""

NETS: dict[str, tuple[int, ...]] = {"20-50-500": (20, 50, 500), "6-16-120-84": (6, 16, 120, 84)}
"""Widths of LeNet, see there; the second is that of the authors' released code."""

FULLY_CONNECTED = "300-100"
"""The key of ``LeNet300``, to which what is said of convolutions and binary units does not apply."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeNetRecipe(Recipe):
    """Training of LeNet; the defaults are the setting of F.

    Attributes:
      net: key of ``NETS``, or ``FULLY_CONNECTED``.
      activation, ste, ste_scale, pooling, init, normalize: see ``LeNet``.
      standardize: whether pixels have mean 0 and variance 1 instead of lying in [0, 1].
      split: kernels with a splitting: all ``kernels``, or ``convolutions``.
      shift: largest random shift of a training image, in pixels.
      data: source of the images, see ``experiments.data.images``.
    """

    net: Literal["20-50-500", "6-16-120-84", "300-100"] = "20-50-500"
    activation: Literal["relu", "binary"] = "binary"
    ste: STE = "relu"
    ste_scale: float = 1.0
    pooling: Literal["before", "after"] = "before"
    init: Literal["lecun", "torch"] = "lecun"
    normalize: bool = False
    standardize: bool = True
    split: Literal["kernels", "convolutions"] = "kernels"
    shift: int = 0
    data: str = "mnist"

    def make_network(self) -> nnx.Module:
        """Returns LeNet."""
        if self.net == FULLY_CONNECTED:
            return LeNet300(rngs=nnx.Rngs(self.keys()[0]))
        return LeNet(
            widths=NETS[self.net],
            activation=self.activation,
            ste=self.ste,
            ste_scale=self.ste_scale,
            pooling=self.pooling,
            init=self.init,
            normalize=self.normalize,
            rngs=nnx.Rngs(self.keys()[0]),
        )

    def preparation(self) -> Callable[[Array, Array, bool], Array]:
        """Returns the scaling of pixels and the random shifts of training images."""
        return preparation(self.shift, self.standardize)

    def mask(self) -> Mask:
        """Returns the mask of split leaves."""
        return convolutions if self.split == "convolutions" else None

    def last_layer(self) -> str:
        """Returns the name of the layer whose units are the classes."""
        return "dense3" if self.net == FULLY_CONNECTED else f"dense{len(NETS[self.net]) - 1}"

    def left_out(self) -> tuple[str, ...]:
        """Returns the last layer for group penalties, because its units are classes; with top-k the first, too."""
        if self.penalty == "group_top_k":
            # The 20 filters of the first layer have an eighth of a percent of the weights.
            return (self.last_layer(), "conv1")
        return (self.last_layer(),) if self.penalty.startswith("group") else ()

    def label(self) -> str:
        """Returns the activation, or the widths where there is one alone."""
        return self.net if self.net == FULLY_CONNECTED else self.activation


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitsRecipe(LeNetRecipe):
    """Training of LeNet that may remove units of every layer except the last."""

    def left_out(self) -> tuple[str, ...]:
        """Returns the last layer."""
        return (self.last_layer(),)

    def label(self) -> str:
        """Returns ``units``."""
        return "units"


def convolutions(path: str) -> bool:
    """Returns whether a leaf is the kernel of a convolution."""
    return "conv" in path and path.endswith("kernel")


@functools.cache
def preparation(shift: int, standardize: bool = True) -> Callable[[Array, Array, bool], Array]:
    """Returns the map from uint8 images to LeNet's input; cached, so it compiles once."""

    def prepare(images: Array, key: Array, train: bool) -> Array:
        if train and shift:
            images = shifted(images, key, shift)
        x = images.astype(jnp.float32) / 255
        return (x - INPUT_MEAN) / INPUT_SCALE if standardize else x

    return prepare
