"""What a training is made of: a recipe is data, and becomes network, optimizer and images here."""

from __future__ import annotations

import abc
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
from experiments.released import SignedPercentile
from experiments.training import Task
from rvsmjax.transforms.selection import Mask

RAMP = 2 / 3
"""Share of the epochs over which a schedule of sparsity or λ rises."""

PENALTIES: dict[str, Callable[[], rv.Penalty]] = {
    "l1": rv.L1,
    "l0": rv.L0,
    "tl1": lambda: rv.TransformedL1(1.0),
    "group_l1": lambda: rv.Grouped(rv.L1(), axes="filters"),
    "group_l0": lambda: rv.Grouped(rv.L0(), axes="filters"),
    "group_tl1": lambda: rv.Grouped(rv.TransformedL1(1.0), axes="filters"),
    "channel_l1": lambda: rv.Grouped(rv.L1(), axes="channels"),
}
"""A group is the weights into one unit or filter, in ``channel_`` those out of one."""
SHARES = ("top_k", "group_top_k")
"""Penalties whose strength is their share of zeros."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(abc.ABC):
    """One training: of which network, a subclass says.

    Attributes:
      method: ``sgd`` (splits nothing), ``rvsm``, ``admm``, ``magnitude`` (gradual pruning) or ``frozen`` (fine-tuning
        of u as ``start`` left it, a share ``sparsity`` of its weights set to 0).
      penalty: a name of ``PENALTIES``, ``top_k`` (of all that is split together) or ``group_top_k`` (of the groups of
        each leaf); of ADMM ``top_k`` or ``signed_percentile``, see ``SignedPercentile``.
      lam: λ; with ``sparsity`` and a name of ``PENALTIES``, the λ of that sparsity at the start takes its place.
      beta: β, or ρ of ADMM.
      sparsity: share of zeros wanted, over all that is split together.
      placement: of β(w − u): ``coupled``, before momentum, or ``decoupled``, after it.
      overwrite: whether, with ``rvsm``, w becomes u at the end of each epoch.
      schedule: of the learning rate: ``step`` (a tenth from each of ``milestones``, shares of the epochs, on) or
        ``cosine``.
      key, seed: root of all randomness, and what is folded into it.
      start: the run whose end this one starts from.
    """

    method: Literal["sgd", "rvsm", "admm", "magnitude", "frozen"] = "sgd"
    penalty: str = ""
    lam: float = 0.0
    beta: float = 1.0
    sparsity: float = 0.0
    placement: Literal["coupled", "decoupled"] = "coupled"
    overwrite: bool = False
    epochs: int = 100
    batch: int = 64
    learning_rate: float = 1e-3
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[float, ...] = (0.6,)
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    key: int = 0
    seed: int = 0
    start: Recipe | None = None

    @abc.abstractmethod
    def make_network(self) -> nnx.Module:
        """Returns the network, its weights drawn by the recipe's key and seed."""

    @abc.abstractmethod
    def preparation(self) -> Callable[[Array, Array, bool], Array]:
        """Returns what makes the network's input of images, see ``Task``; equal recipes have the same."""

    @abc.abstractmethod
    def label(self) -> str:
        """Returns the first word of the name."""

    def mask(self) -> Mask:
        """Returns which leaves are split or pruned, see ``rvsmjax.transforms.select``."""
        return None

    def left_out(self) -> tuple[str, ...]:
        """Returns leaves, by regular expression on the path, that ``rvsm`` leaves alone although ``mask`` has them."""
        return ()

    def settings(self) -> dict[str, Any]:
        """Returns what differs from the defaults, so that a field that is added changes no name."""
        own = {field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)}
        differing = {name: value for name, (value, default) in own.items() if value != default}
        return {name: value.settings() if isinstance(value, Recipe) else value for name, value in differing.items()}

    def keys(self) -> Array:
        """Returns two keys: of the weights at the start, and of the order of the images and their moves."""
        return jax.random.split(jax.random.fold_in(jax.random.key(self.key), self.seed))

    def name(self) -> str:
        """Returns a name for files: what is done, to what seed, and a hash of the settings."""
        digest = hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:8]
        strength = f"{self.sparsity:g}" if self.sparsity else f"{self.lam:g}" if self.lam else ""
        parts = [self.label(), self.method, self.penalty, strength, f"seed{self.seed}", digest]
        return "-".join(part for part in parts if part)


def make_task(recipe: Recipe, data: Data, start: tuple[Any, Any] | None = None) -> Task:
    """Returns network, optimizer and images.

    Args:
      recipe: what to make.
      data: images.
      start: parameters and the rest of the network at the start; default: drawn by the recipe's seed.
    """
    network = recipe.make_network()
    if start is not None:
        params, rest = start
        if recipe.method == "frozen":
            params = keep_largest(params, recipe.sparsity, recipe.mask())
        nnx.update(network, params, rest)
    steps = len(data.train.labels) // recipe.batch
    optimizer = make_optimizer(recipe, steps, nnx.state(network, nnx.Param))
    overwrite = recipe.overwrite and recipe.method == "rvsm"
    return Task(network, optimizer, data.train, data.validation, recipe.preparation(), overwrite)


def make_optimizer(recipe: Recipe, steps: int, params: Any) -> optax.GradientTransformation:
    """Returns the chain: weight decay, the splitting at its place in SGD, then what sets zeros.

    The same settings give the same object, so that seeds share a compiled step.

    Args:
      recipe: what to make.
      steps: of an epoch.
      params: at the start.
    """
    lam = recipe.lam
    if recipe.method == "rvsm" and recipe.penalty in PENALTIES and recipe.sparsity:
        penalty = PENALTIES[recipe.penalty]()
        lam = rv.lam_for_sparsity(params, penalty, recipe.beta, recipe.sparsity, recipe.mask())
    return _chain(dataclasses.replace(recipe, seed=0, start=None, lam=lam), steps)


@functools.cache
def _chain(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    total = steps * recipe.epochs
    ramp = max(1, round(RAMP * total))
    rates: optax.Schedule
    if recipe.schedule == "cosine":
        rates = optax.cosine_decay_schedule(recipe.learning_rate, total)
    else:
        ends = {round(share * total): 0.1 for share in recipe.milestones}
        rates = optax.piecewise_constant_schedule(recipe.learning_rate, ends)
    splitting = {"rvsm": _rvsm, "admm": _admm}.get(recipe.method)
    split = [splitting(recipe, steps, ramp)] if splitting else []
    moments = optax.trace(recipe.momentum, nesterov=recipe.nesterov)
    parts = [*split, moments] if recipe.placement == "coupled" else [moments, *split]
    parts = [optax.add_decayed_weights(recipe.weight_decay), *parts, optax.scale_by_learning_rate(rates)]
    if recipe.method == "frozen":
        parts.append(rv.keep_zeros(mask=recipe.mask()))
    elif recipe.method == "magnitude":
        shares = rv.cubic_sparsity(recipe.sparsity, 0, ramp)
        parts.append(magnitude_pruning(shares, every=10, mask=recipe.mask()))
    return optax.chain(*parts)


def _rvsm(recipe: Recipe, steps: int, ramp: int) -> optax.GradientTransformation:
    overrides = dict.fromkeys(recipe.left_out()) or None
    share = rv.cubic_sparsity(recipe.sparsity, 0, ramp)
    if recipe.penalty == "top_k":
        top = rv.TopK(sparsity=share, scope="global")
        return rv.rvsm(top, 1.0, recipe.beta, recipe.mask(), update_every=10, overrides=overrides)
    if recipe.penalty == "group_top_k":
        units = rv.Grouped(rv.TopK(sparsity=share), axes="filters")
        return rv.rvsm(units, 1.0, recipe.beta, recipe.mask(), overrides=overrides)
    lam = recipe.lam
    rising = (lambda step: lam * jnp.clip(step / ramp, 0, 1) ** 2) if recipe.sparsity else lam
    return rv.rvsm(PENALTIES[recipe.penalty](), rising, recipe.beta, recipe.mask(), overrides=overrides)


def _admm(recipe: Recipe, steps: int, ramp: int) -> optax.GradientTransformation:
    constraint: rv.Penalty = rv.TopK(sparsity=recipe.sparsity, scope="global")
    if recipe.penalty == "signed_percentile":
        constraint = SignedPercentile(recipe.sparsity)
    return rv.admm(constraint, recipe.beta, dual_every=steps, mask=recipe.mask())


def keep_largest(params: Any, sparsity: float, mask: Mask = None) -> Any:
    """Returns the parameters, of all leaves taken together only the largest components, a share 1 − ``sparsity``."""
    top = rv.rvsm(rv.TopK(sparsity=sparsity, scope="global"), 1.0, 1.0, mask)
    return rv.sparse_params(top.init(params), params)
