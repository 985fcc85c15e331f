"""What a training of LeNet is made of: a recipe is data, and becomes network, optimizer and images here."""

from __future__ import annotations

import dataclasses
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
"""A group is the weights into one unit or filter, in ``channel_`` the weights out of one."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One training of LeNet; the defaults are F's setting.

    Attributes:
      activation, ste, ste_scale, normalize: of ``LeNet``.
      method: ``sgd`` (splits nothing), ``rvsm``, ``admm``, ``magnitude`` (gradual pruning) or ``frozen`` (fine-tuning
        of u as ``start`` left it, a share ``sparsity`` of its weights set to 0).
      penalty: a name of ``PENALTIES`` or ``top_k``.
      lam: λ; with ``sparsity`` and a penalty other than ``top_k``, the λ of that sparsity at the start takes its place.
      beta: β, or ρ of ADMM.
      sparsity: share of zeros wanted, over all kernels together.
      schedule: of the learning rate: ``step`` (a tenth from 60 % of the epochs on) or ``cosine``.
      shift: pixels that a training image is moved by at most, at random.
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
    seed: int = 0
    data: str = "mnist"
    start: Recipe | None = None

    def settings(self) -> dict[str, Any]:
        """Returns what differs from the defaults, so that a field that is added changes no name."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        differing = {name: value for name, value in own.items() if value != getattr(Recipe, name)}
        return {name: value.settings() if isinstance(value, Recipe) else value for name, value in differing.items()}

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
        rngs=nnx.Rngs(recipe.seed),
    )
    if start is not None:
        params, rest = start
        if recipe.method == "frozen":
            params = keep_largest(params, recipe.sparsity)
        nnx.update(network, params, rest)
    steps = recipe.epochs * (len(data.train.labels) // recipe.batch)
    optimizer = make_optimizer(recipe, steps, nnx.state(network, nnx.Param))
    return Task(network, optimizer, data.train, data.validation, _prepare(recipe.shift))


def make_optimizer(recipe: Recipe, steps: int, params: Any) -> optax.GradientTransformation:
    """Returns the chain: weight decay, the splitting, SGD (both coupled), then what sets zeros."""
    rates: optax.Schedule
    if recipe.schedule == "cosine":
        rates = optax.cosine_decay_schedule(recipe.learning_rate, steps)
    else:
        rates = optax.piecewise_constant_schedule(recipe.learning_rate, {round(0.6 * steps): 0.1})
    ramp = round(RAMP * steps)
    parts: list[optax.GradientTransformation] = [optax.add_decayed_weights(recipe.weight_decay)]
    if recipe.method == "rvsm":
        parts.append(_splitting(recipe, ramp, params))
    elif recipe.method == "admm":
        top = rv.TopK(sparsity=recipe.sparsity, scope="global")
        parts.append(rv.admm(top, recipe.beta, dual_every=max(1, steps // recipe.epochs)))
    parts.append(optax.sgd(rates, momentum=recipe.momentum, nesterov=recipe.nesterov))
    if recipe.method == "frozen":
        parts.append(rv.keep_zeros())
    elif recipe.method == "magnitude":
        parts.append(magnitude_pruning(rv.cubic_sparsity(recipe.sparsity, 0, ramp), every=10))
    return optax.chain(*parts)


def _splitting(recipe: Recipe, ramp: int, params: Any) -> optax.GradientTransformation:
    if recipe.penalty == "top_k":
        top = rv.TopK(sparsity=rv.cubic_sparsity(recipe.sparsity, 0, ramp), scope="global")
        return rv.rvsm(top, 1.0, recipe.beta, update_every=10)
    penalty = PENALTIES[recipe.penalty]()
    if not recipe.sparsity:
        return rv.rvsm(penalty, recipe.lam, recipe.beta)
    lam = rv.lam_for_sparsity(params, penalty, recipe.beta, recipe.sparsity)
    return rv.rvsm(penalty, lambda step: lam * jnp.clip(step / ramp, 0, 1) ** 2, recipe.beta)


def keep_largest(params: Any, sparsity: float) -> Any:
    """Returns the parameters, of all kernels together only the largest components, a share 1 − ``sparsity``."""
    top = rv.rvsm(rv.TopK(sparsity=sparsity, scope="global"), 1.0, 1.0)
    return rv.sparse_params(top.init(params), params)


def _prepare(shift: int) -> Callable[[Array, Array, bool], Array]:
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
