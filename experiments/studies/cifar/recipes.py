"""Trainings on CIFAR-10, with the settings of paper I and of its authors' released code."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from rvsmjax.nets import VGG16, ResNet
from rvsmjax.transforms import Mask

from ...training.augment import flipped, shifted
from ...training.recipes import Recipe

NETS: dict[str, Callable[..., nnx.Module]] = {
    "resnet18": functools.partial(ResNet, blocks=(2, 2, 2, 2), width=64),
    "vgg16": VGG16,
    "slim": functools.partial(ResNet, blocks=(1, 1, 1), width=16),
}
"""Networks; ``slim`` is a residual network of eight layers and a quarter of the width, 78,042 numbers."""
MEANS, DEVIATIONS = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Of the training pixels in [0, 1], by channel."""
PADDING = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class CifarRecipe(Recipe):
    """One training on CIFAR-10; the defaults are the released code's schedule, see ``released`` for all of it.

    Attributes:
      net: a name of ``NETS``.
      dtype: of the computation; parameters are float32.
      standardize: whether pixels are brought to mean 0 and variance 1; else they are in [0, 1].
      split: what is split: ``convolutions`` alone, or all ``kernels``.
      init: how weights are drawn, see ``rvsmjax.nets.ResNet``.
      data: source of the images, see ``experiments.data.images``.
    """

    net: Literal["resnet18", "vgg16", "slim"] = "resnet18"
    dtype: Literal["float32", "bfloat16"] = "float32"
    standardize: bool = False
    split: Literal["convolutions", "kernels"] = "convolutions"
    init: Literal["he", "torch"] = "he"
    data: str = "cifar10"

    placement: Literal["coupled", "decoupled"] = "decoupled"
    epochs: int = 200
    batch: int = 128
    learning_rate: float = 0.1
    milestones: tuple[float, ...] = (0.4, 0.6, 0.8)
    nesterov: bool = True

    def make_network(self) -> nnx.Module:
        """Returns the network."""
        return NETS[self.net](dtype=jnp.dtype(self.dtype), init=self.init, rngs=nnx.Rngs(self.keys()[0]))

    def preparation(self) -> Callable[[Array, Array, bool], Array]:
        """Returns what scales pixels, and crops and turns training images."""
        return preparation(self.standardize)

    def label(self) -> str:
        """Returns the network's name."""
        return self.net

    def mask(self) -> Mask:
        """Returns what is split."""
        return convolutions if self.split == "convolutions" else None


def convolutions(path: str) -> bool:
    """Tells whether a leaf is the kernel of a convolution."""
    return path.endswith("kernel") and "head" not in path


@functools.cache
def preparation(standardize: bool) -> Callable[[Array, Array, bool], Array]:
    """Returns the function that makes a network's input of uint8 images; the same for the same argument."""

    def prepare(images: Array, key: Array, train: bool) -> Array:
        if train:
            crop, turn = jax.random.split(key)
            images = flipped(shifted(images, crop, PADDING), turn)
        x = images.astype(jnp.float32) / 255
        return (x - jnp.asarray(MEANS)) / jnp.asarray(DEVIATIONS) if standardize else x

    return prepare


def paper(net: str, method: str, penalty: str, **settings: Any) -> CifarRecipe:
    """Returns one row of paper I's tables with the paper's numbers; keywords take precedence.

    Args:
      net: a name of ``NETS``.
      method: of ``Recipe``.
      penalty: of ``Recipe``.
      settings: fields of ``CifarRecipe``.

    Source: I section 6 (λ, β, ρ), the released code (epochs, batch, SGD).
    """
    own: dict[str, Any] = {}
    if method == "rvsm":
        lam, beta = (1e-5, 1e-2) if net == "vgg16" else (1e-6, 8e-2)
        own = {"lam": lam, "beta": beta, "overwrite": True}
    elif method == "admm":
        own = {"beta": 1e-2, "sparsity": 0.6, "placement": "coupled"}
    return CifarRecipe(**{"net": net, "method": method, "penalty": penalty} | own | settings)


def released(net: str, method: str, penalty: str, **settings: Any) -> CifarRecipe:
    """Returns the same as the authors' released code runs it; arguments as of ``paper``.

    PyTorch's initialisation; all 50,000 training images, the test images evaluated on meanwhile; momentum at 0 at the
    start of each epoch, since the code makes a new optimizer there; u evaluated with the running means of w.

    ADMM with the penalty ``signed_percentile`` is the code's: u and z before each step, z at 0 at the start of each
    epoch, the pull ρ(w − u + z) outside momentum, and once for each convolution, since two loops are nested (20 pulls a
    step of ResNet18, here added up; one after another they come to 1 % less). The code evaluates w, not u. Other ADMM
    is as the method is meant: u and z once an epoch, kept from epoch to epoch, one pull, inside momentum.
    """
    own: dict[str, Any] = {"init": "torch", "restart": "momentum", "train_on": "all", "settle": False}
    if method == "admm" and penalty == "signed_percentile":
        own |= {"restart": "all", "dual_every": "step", "pull_per_layer": True, "placement": "decoupled"}
    elif method == "admm":
        own |= {"settle": True}
    return paper(net, method, penalty, **own | settings)


def modern(net: str, method: str, penalty: str, **settings: Any) -> CifarRecipe:
    """Returns ``paper`` with standardised pixels, a cosine schedule and w left alone between epochs."""
    own = {"standardize": True, "schedule": "cosine", "overwrite": False}
    return paper(net, method, penalty, **own | settings)


def short(net: str, method: str, penalty: str, **settings: Any) -> CifarRecipe:
    """Returns ``modern`` for a few epochs: each method at the same share of zeros, with a λ for it that rises."""
    own: dict[str, Any] = {"lam": 0.0, "sparsity": 0.0 if method == "sgd" else 0.6}
    return modern(net, method, penalty, **own | settings)


PRESETS = {"released": released, "modern": modern, "short": short}
EPOCHS = {"released": 200, "modern": 200, "short": 2}
"""Epochs of each preset."""
