"""Recipes for LeNet."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jax import Array

from rvsmjax.nets import STE, LeNet

from ...training.augment import shifted
from ...training.recipes import Recipe

INPUT_MEAN, INPUT_SCALE = 0.1307, 0.3081
"""Mean and standard deviation of MNIST's training pixels in [0, 1]."""

PARAMETERS = 431_080
"""Number of parameters of LeNet, with biases."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeNetRecipe(Recipe):
    """Training of LeNet; the defaults are the setting of F.

    Attributes:
      activation, ste, ste_scale, normalize: see ``LeNet``.
      shift: largest random shift of a training image, in pixels.
      data: source of the images, see ``experiments.data.images``.
    """

    activation: Literal["relu", "binary"] = "binary"
    ste: STE = "relu"
    ste_scale: float = 1.0
    normalize: bool = False
    shift: int = 0
    data: str = "mnist"

    def make_network(self) -> nnx.Module:
        """Returns LeNet."""
        return LeNet(
            activation=self.activation,
            ste=self.ste,
            ste_scale=self.ste_scale,
            normalize=self.normalize,
            rngs=nnx.Rngs(self.keys()[0]),
        )

    def preparation(self) -> Callable[[Array, Array, bool], Array]:
        """Returns the standardisation of pixels and the random shifts of training images."""
        return preparation(self.shift)

    def left_out(self) -> tuple[str, ...]:
        """Returns the last layer for group penalties, because its units are classes; with top-k the first, too."""
        if self.penalty == "group_top_k":
            # The 20 filters of the first layer have an eighth of a percent of the weights.
            return ("dense2", "conv1")
        return ("dense2",) if self.penalty.startswith("group") else ()

    def label(self) -> str:
        """Returns the activation."""
        return self.activation


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitsRecipe(LeNetRecipe):
    """Training of LeNet that may remove units of every layer except the last."""

    def left_out(self) -> tuple[str, ...]:
        """Returns the last layer."""
        return ("dense2",)

    def label(self) -> str:
        """Returns ``units``."""
        return "units"


@functools.cache
def preparation(shift: int) -> Callable[[Array, Array, bool], Array]:
    """Returns the map from uint8 images to LeNet's input; cached, so it compiles once."""

    def prepare(images: Array, key: Array, train: bool) -> Array:
        if train and shift:
            images = shifted(images, key, shift)
        return (images.astype(jnp.float32) / 255 - INPUT_MEAN) / INPUT_SCALE

    return prepare
