"""Trainings of LeNet."""

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
"""Of MNIST's training pixels, in [0, 1]."""

PARAMETERS = 431_080
"""Of LeNet, biases and all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeNetRecipe(Recipe):
    """One training of LeNet; the defaults are F's setting.

    Attributes:
      activation, ste, ste_scale, normalize: of ``LeNet``.
      shift: pixels that a training image is moved by at most, at random.
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
        """Returns what scales pixels to mean 0 and variance 1, and moves training images."""
        return preparation(self.shift)

    def left_out(self) -> tuple[str, ...]:
        """Returns the last layer where groups are units: there they are classes; for shares of units the first, too."""
        if self.penalty == "group_top_k":
            # An eighth of a percent of the weights is in the 20 filters of the first.
            return ("dense2", "conv1")
        return ("dense2",) if self.penalty.startswith("group") else ()

    def label(self) -> str:
        """Returns the activation."""
        return self.activation


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitsRecipe(LeNetRecipe):
    """One training of LeNet in which units of every layer but the classes may go, to make it smaller."""

    def left_out(self) -> tuple[str, ...]:
        """Returns the last layer."""
        return ("dense2",)

    def label(self) -> str:
        """Returns ``units``."""
        return "units"


@functools.cache
def preparation(shift: int) -> Callable[[Array, Array, bool], Array]:
    """Returns the function that makes LeNet's input of uint8 images; the same for the same shift."""

    def prepare(images: Array, key: Array, train: bool) -> Array:
        if train and shift:
            images = shifted(images, key, shift)
        return (images.astype(jnp.float32) / 255 - INPUT_MEAN) / INPUT_SCALE

    return prepare
