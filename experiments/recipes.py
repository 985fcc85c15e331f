"""What a training of LeNet is made of: a recipe is data, and becomes network, optimizer and images here."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

import rvsmjax as rv
from experiments.images import Data
from experiments.magnitude import magnitude_pruning
from experiments.training import Task
from rvsmjax.nets import STE, LeNet

RAMP = 2 / 3
"""Share of the epochs over which a schedule of sparsity or λ rises."""
INPUT_MEAN, INPUT_SCALE = 0.1307, 0.3081
"""Of MNIST's training pixels, in [0, 1]."""

PENALTIES: dict[str, Callable[[], rv.Penalty]] = {
    "l1": rv.L1,
    "l0": rv.L0,
    "tl1": lambda: rv.TransformedL1(1.0),
    "group_l1": lambda: rv.Grouped(rv.L1(), axes="filters"),
    "group_l0": lambda: rv.Grouped(rv.L0(), axes="filters"),
    "group_tl1": lambda: rv.Grouped(rv.TransformedL1(1.0), axes="filters"),
    "channel_l1": lambda: rv.Grouped(rv.L1(), axes="channels"),
}
"""A group is the weights into one unit or filter, in ``channel_`` those out of one. The last layer, whose units are
classes, takes no part in the former."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One training of LeNet; the defaults are F's setting.

    Attributes:
      activation, ste, ste_scale, normalize: of ``LeNet``.
      method: ``sgd`` (splits nothing), ``rvsm``, ``admm``, ``magnitude`` (gradual pruning) or ``frozen`` (fine-tuning
        of u as ``start`` left it, a share ``sparsity`` of its weights set to 0).
      penalty: a name of ``PENALTIES``, ``top_k`` (of all kernels together) or ``group_top_k`` (of the groups of
        ``conv2`` and of ``dense1``).
      lam: λ; with ``sparsity`` and a name of ``PENALTIES``, the λ of that sparsity at the start takes its place.
      beta: β, or ρ of ADMM.
      sparsity: share of zeros wanted, over all kernels together.
      schedule: of the learning rate: ``step`` (a tenth from 60 % of the epochs on) or ``cosine``.
      shift: pixels that a training image is moved by at most, at random.
      key, seed: root of all randomness, and what is folded into it.
      start: the run whose end this one starts from.
    """

    activation: Literal["relu", "binary"] = "binary"
    ste: STE = "relu"
    ste_scale: float = 1.0
    normalize: bool = False
    method: Literal["sgd", "rvsm", "admm", "magnitude", "frozen"] = "sgd"
    penalty: str = ""
    lam: float = 0.0
    beta: float = 1.0
    sparsity: float = 0.0
    epochs: int = 100
    batch: int = 64
    learning_rate: float = 1e-3
    schedule: Literal["step", "cosine"] = "step"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    shift: int = 0
    key: int = 0
    seed: int = 0
    data: str = "mnist"
    start: Recipe | None = None

    def settings(self) -> dict[str, Any]:
        """Returns what differs from the defaults, so that a field that is added changes no name."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        differing = {name: value for name, value in own.items() if value != getattr(Recipe, name)}
        return {name: value.settings() if isinstance(value, Recipe) else value for name, value in differing.items()}

    def keys(self) -> Array:
        """Returns two keys: of the weights at the start, and of the order of the images and their moves."""
        return jax.random.split(jax.random.fold_in(jax.random.key(self.key), self.seed))

    def name(self) -> str:
        """Returns a name for files: what is done, to what seed, and a hash of the settings."""
        digest = hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:8]
        strength = f"{self.sparsity:g}" if self.sparsity else f"{self.lam:g}" if self.lam else ""
        parts = [self.activation, self.method, self.penalty, strength, f"seed{self.seed}", digest]
        return "-".join(part for part in parts if part)


def make_task(recipe: Recipe, data: Data, start: tuple[Any, Any] | None = None) -> Task:
    """Returns network, optimizer and images.

    Args:
      recipe: what to make.
      data: images.
      start: parameters and the rest of the network at the start; default: drawn by the recipe's seed.
    """
    network = LeNet(
        activation=recipe.activation,
        ste=recipe.ste,
        ste_scale=recipe.ste_scale,
        normalize=recipe.normalize,
        rngs=nnx.Rngs(recipe.keys()[0]),
    )
    if start is not None:
        params, rest = start
        if recipe.method == "frozen":
            params = keep_largest(params, recipe.sparsity)
        nnx.update(network, params, rest)
    steps = recipe.epochs * (len(data.train.labels) // recipe.batch)
    optimizer = make_optimizer(recipe, steps, nnx.state(network, nnx.Param))
    return Task(network, optimizer, data.train, data.validation, preparation(recipe.shift))


def make_optimizer(recipe: Recipe, steps: int, params: Any) -> optax.GradientTransformation:
    """Returns the chain: weight decay, the splitting, SGD (both coupled), then what sets zeros.

    The same settings give the same object, so that seeds share a compiled step.
    """
    lam = recipe.lam
    if recipe.method == "rvsm" and recipe.penalty in PENALTIES and recipe.sparsity:
        lam = rv.lam_for_sparsity(params, PENALTIES[recipe.penalty](), recipe.beta, recipe.sparsity)
    return _chain(dataclasses.replace(recipe, seed=0, start=None, lam=lam), steps)


@functools.cache
def _chain(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    rates: optax.Schedule
    if recipe.schedule == "cosine":
        rates = optax.cosine_decay_schedule(recipe.learning_rate, steps)
    else:
        rates = optax.piecewise_constant_schedule(recipe.learning_rate, {round(0.6 * steps): 0.1})
    ramp = max(1, round(RAMP * steps))
    parts: list[optax.GradientTransformation] = [optax.add_decayed_weights(recipe.weight_decay)]
    if recipe.method == "rvsm":
        parts.append(_splitting(recipe, ramp))
    elif recipe.method == "admm":
        top = rv.TopK(sparsity=recipe.sparsity, scope="global")
        parts.append(rv.admm(top, recipe.beta, dual_every=max(1, steps // recipe.epochs)))
    parts.append(optax.sgd(rates, momentum=recipe.momentum, nesterov=recipe.nesterov))
    if recipe.method == "frozen":
        parts.append(rv.keep_zeros())
    elif recipe.method == "magnitude":
        parts.append(magnitude_pruning(rv.cubic_sparsity(recipe.sparsity, 0, ramp), every=10))
    return optax.chain(*parts)


def _splitting(recipe: Recipe, ramp: int) -> optax.GradientTransformation:
    # A group of the last layer is a class: without it there is nothing to say of one.
    overrides = {"dense2": None} if recipe.penalty.startswith("group") else None
    share = rv.cubic_sparsity(recipe.sparsity, 0, ramp)
    if recipe.penalty == "top_k":
        return rv.rvsm(rv.TopK(sparsity=share, scope="global"), 1.0, recipe.beta, update_every=10)
    if recipe.penalty == "group_top_k":
        # Nor is there much to save in the 20 filters of the first, an eighth of a percent of the weights.
        units = rv.Grouped(rv.TopK(sparsity=share), axes="filters")
        return rv.rvsm(units, 1.0, recipe.beta, overrides={"conv1": None, "dense2": None})
    lam = recipe.lam
    rising = (lambda step: lam * jnp.clip(step / ramp, 0, 1) ** 2) if recipe.sparsity else lam
    return rv.rvsm(PENALTIES[recipe.penalty](), rising, recipe.beta, overrides=overrides)


def keep_largest(params: Any, sparsity: float) -> Any:
    """Returns the parameters, of all kernels together only the largest components, a share 1 − ``sparsity``."""
    top = rv.rvsm(rv.TopK(sparsity=sparsity, scope="global"), 1.0, 1.0)
    return rv.sparse_params(top.init(params), params)


@functools.cache
def preparation(shift: int) -> Callable[[Array, Array, bool], Array]:
    """Returns the function that makes the network's input of uint8 images; the same for the same shift."""

    def prepare(images: Array, key: Array, train: bool) -> Array:
        if train and shift:
            images = shifted(images, key, shift)
        return (images.astype(jnp.float32) / 255 - INPUT_MEAN) / INPUT_SCALE

    return prepare


def shifted(images: Array, key: Array, most: int) -> Array:
    """Returns the images, each moved by up to ``most`` pixels along both axes, filled up with 0."""
    n, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    down, right = jax.random.randint(key, (2, n, 1), 0, 2 * most + 1)
    rows, columns = down + jnp.arange(height), right + jnp.arange(width)
    return padded[jnp.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
