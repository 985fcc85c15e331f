"""Recipes for CIFAR-10 with the settings of paper I and of its released code."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from rvsmjax.nets import VGG16, VGG19, QuickNet, ResNet
from rvsmjax.transforms import Mask

from ...training.augment import Padding, flipped, shifted
from ...training.recipes import Recipe
from ...training.settings import Network


def _quick(init: str, **options: Any) -> QuickNet:
    del init  # it has one of its own
    return QuickNet(**options)


NETS: dict[str, Callable[..., nnx.Module]] = {
    "resnet18": functools.partial(ResNet, blocks=(2, 2, 2, 2), width=64),
    "vgg16": VGG16,
    "vgg19": VGG19,
    "resnet20": functools.partial(ResNet, blocks=(3, 3, 3), width=16),
    "slim": functools.partial(ResNet, blocks=(1, 1, 1), width=16),
    "quick": _quick,
}
"""Networks: ``resnet20`` has 272,474 parameters, as its shortcuts are 1 × 1 convolutions; ``slim`` is a residual
network of eight layers with 78,042; ``quick`` begins with the patches of the training images whitened."""
MEANS, DEVIATIONS = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Mean and standard deviation of the training pixels in [0, 1], by channel."""
PADDING = 4
"""Pixels that random crops move an image by at most, unless a recipe has another number."""
WHITENED = 5000
"""Number of training images that ``quick`` computes its patches from."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CifarRecipe(Recipe):
    """Training on CIFAR-10. The defaults are the schedule of the released code; ``released`` has all its settings.

    Attributes:
      net: key of ``NETS``.
      dtype: precision of the computation; parameters are float32.
      standardize: whether pixels have mean 0 and variance 1 instead of lying in [0, 1].
      split: kernels with a splitting: ``convolutions``, or all ``kernels``.
      crop: what random crops are padded with: ``zeros``, or the image reflected (``reflect``).
      shift: largest number of pixels that random crops move an image by.
      init: initialisation, see ``rvsmjax.nets.ResNet``; ``quick`` has only its own.
      data: source of the images, see ``experiments.data.images``.
    """

    net: Literal["resnet18", "vgg16", "vgg19", "resnet20", "slim", "quick"] = "resnet18"
    dtype: Literal["float32", "bfloat16"] = "float32"
    standardize: bool = False
    split: Literal["convolutions", "kernels"] = "convolutions"
    crop: Padding = "zeros"
    shift: int = PADDING
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
        """Returns the scaling of pixels and the random crops and flips of training images."""
        return preparation(self.standardize, self.crop, self.shift, not self.alternating)

    def fit_to_images(self, network: Network, images: Array) -> None:
        """Whitens the patches of ``quick``."""
        if isinstance(network, QuickNet):
            network.whiten(self.preparation()(images[:WHITENED], jax.random.key(0), False))

    def label(self) -> str:
        """Returns the network's name."""
        return self.net

    def mask(self) -> Mask:
        """Returns the mask of split leaves."""
        return convolutions if self.split == "convolutions" else None


def convolutions(path: str) -> bool:
    """Returns whether a leaf is the kernel of a convolution."""
    return path.endswith("kernel") and "head" not in path


def preparation(
    standardize: bool, crop: Padding = "zeros", shift: int = PADDING, flip: bool = True
) -> Callable[[Array, Array, bool], Array]:
    """Returns the map from uint8 images to the network's input; cached, so it compiles once."""
    return _preparation(standardize, crop, shift, flip)


@functools.cache
def _preparation(standardize: bool, crop: Padding, shift: int, flip: bool) -> Callable[[Array, Array, bool], Array]:
    def prepare(images: Array, key: Array, train: bool) -> Array:
        if train:
            shift_key, flip_key = jax.random.split(key)
            images = shifted(images, shift_key, shift, crop)
            images = flipped(images, flip_key) if flip else images
        x = images.astype(jnp.float32) / 255
        return (x - jnp.asarray(MEANS)) / jnp.asarray(DEVIATIONS) if standardize else x

    return prepare


def paper(net: str, method: str, penalty: str, **settings: Any) -> CifarRecipe:
    """Returns a row of paper I's tables with the paper's settings; keywords take precedence.

    Args:
      net: key of ``NETS``.
      method: see ``Recipe``.
      penalty: see ``Recipe``.
      settings: fields of ``CifarRecipe``.

    Source: I section 6 (λ, β, ρ), the released code (epochs, batch, SGD).
    """
    defaults: dict[str, Any] = {}
    if method == "rvsm":
        lam, beta = (1e-5, 1e-2) if net == "vgg16" else (1e-6, 8e-2)
        defaults = {"lam": lam, "beta": beta, "overwrite": True}
    elif method == "admm":
        defaults = {"beta": 1e-2, "sparsity": 0.6, "placement": "coupled"}
    return CifarRecipe(**{"net": net, "method": method, "penalty": penalty} | defaults | settings)


def released(net: str, method: str, penalty: str, **settings: Any) -> CifarRecipe:
    """Returns ``paper`` with the settings of the released code.

    PyTorch's initialisation; training on all 50,000 images, with the test images for evaluation; zero momentum at the
    start of each epoch, where the code creates a new optimizer; u evaluated with the running means of w.

    ADMM with the penalty ``signed_percentile`` follows the code: u and z are updated before each step, z is zero at the
    start of each epoch, and the force ρ(w − u + z) bypasses momentum and is applied once per convolution, because two
    loops are nested (20 times per step of ResNet18, here as a sum; applied in sequence they amount to 1 % less). The
    code evaluates w, not u. Other ADMM follows the method: u and z are updated once per epoch and kept across epochs,
    with one force, inside momentum.
    """
    defaults: dict[str, Any] = {"init": "torch", "restart": "momentum", "train_on": "all", "settle": False}
    if method == "admm" and penalty == "signed_percentile":
        defaults |= {"restart": "all", "dual_every": "step", "pull_per_layer": True, "placement": "decoupled"}
    elif method == "admm":
        defaults |= {"settle": True}
    return paper(net, method, penalty, **defaults | settings)


def modern(net: str, method: str, penalty: str, **settings: Any) -> CifarRecipe:
    """Returns ``paper`` with standardised pixels, a cosine schedule and without overwriting w by u after epochs."""
    defaults = {"standardize": True, "schedule": "cosine", "overwrite": False}
    return paper(net, method, penalty, **defaults | settings)


def short(net: str, method: str, penalty: str, **settings: Any) -> CifarRecipe:
    """Returns ``modern`` for a few epochs, all methods at the same share of zeros; λ follows from it and increases."""
    defaults: dict[str, Any] = {"lam": 0.0, "sparsity": 0.0 if method == "sgd" else 0.6}
    return modern(net, method, penalty, **defaults | settings)


def fast(net: str, method: str, penalty: str, **settings: Any) -> CifarRecipe:
    """Returns ``modern`` for 26 to 80 epochs, with all sparse methods at 90 % zeros unless ``settings`` has others.

    The learning rate is 0.1 for a batch of 128, proportional to the batch, and rises over the first tenth of the steps;
    only kernels decay; crops are padded by reflection; labels are smoothed for the large networks. The sparsity
    rises until two thirds of the steps. λ follows it in every step of rvsm, so u ends with it; ``modern`` and ``short``
    keep to the λ of the initial weights.

    β is 8e-2 for all networks: what remains of w − u after the last third is then about exp(−Σηβ) = exp(−4) in 40
    epochs of CIFAR-10, and with I's 1e-2 for VGG-16 it would be exp(−0.5).
    """
    defaults: dict[str, Any] = {
        "lam": 0.0,
        "sparsity": 0.0 if method == "sgd" else 0.9,
        "follow": method in ("rvsm", "admm"),
        "learning_rate": 0.1 * settings.get("batch", 128) / 128,
        "warm_up": 0.1,
        "decay": "kernels",
        "label_smoothing": 0.1 if net in ("resnet18", "vgg16", "vgg19") else 0.0,
        "crop": "reflect",
    }
    if method == "rvsm":
        defaults["beta"] = 8e-2
    return modern(net, method, penalty, **defaults | settings)


def speedrun(net: str, method: str, penalty: str, **settings: Any) -> CifarRecipe:
    """Returns the settings of airbench94 for 16 epochs, made for ``quick``, with sparse methods as in ``fast``.

    Batches of 1000, Nesterov momentum 0.85, triangular schedule, lookahead, labels smoothed by 0.2, reflected crops of
    two pixels, images mirrored in every other epoch. Learning rate and weight decay are those of the source for the
    sum of the losses, converted to their mean; the biases of norms learn 64 times as fast. All training images are
    trained on, and the network of the last epoch alone is evaluated, on the test images; nothing is chosen by that.

    Unlike in the source, the bias of the patches is trained throughout, and the running means of the final average are
    estimated after the training. β is 3e-2, by the rule of ``fast``.

    Source: K. Jordan (arXiv 2404.00498).
    """
    batch, momentum = settings.get("batch", BATCHES["speedrun"]), 0.85
    rate = 11.5 / (1024 * (1 + 1 / (1 - momentum)))
    defaults: dict[str, Any] = {
        "lam": 0.0,
        "sparsity": 0.0 if method == "sgd" else 0.9,
        "follow": method in ("rvsm", "admm"),
        "batch": batch,
        "epochs": EPOCHS["speedrun"],
        "learning_rate": rate * batch,
        "schedule": "triangle",
        "warm_up": 0.23,
        "momentum": momentum,
        "weight_decay": 0.0153 / 11.5,
        "norm_biases": 64.0,
        "lookahead": 0.95,
        "label_smoothing": 0.2,
        "crop": "reflect",
        "shift": 2,
        "alternating": True,
        "train_on": "all",
        "evaluate_every": settings.get("epochs", EPOCHS["speedrun"]),
        "speedrun": True,
    }
    if method == "rvsm":
        defaults["beta"] = 3e-2
    return modern(net, method, penalty, **defaults | settings)


PRESETS = {"released": released, "modern": modern, "short": short, "fast": fast, "speedrun": speedrun}
EPOCHS = {"released": 200, "modern": 200, "short": 2, "fast": 40, "speedrun": 16}
"""Epochs of each preset."""
BATCHES = {"released": 128, "modern": 128, "short": 128, "fast": 128, "speedrun": 1000}
"""Images per step of each preset."""
