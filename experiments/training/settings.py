"""One training as data: every setting, the files' name that follows from them, and what a kind of network adds."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Literal, Protocol

import jax
from jax import Array

from rvsmjax.transforms import Mask

from ..records.folder import Facts


class Network(Protocol):
    """A module of Flax NNX that gives class scores."""

    def __call__(self, x: Array) -> Array:
        """Returns the scores of images as ``Recipe.preparation`` makes them."""

    def eval(self) -> None:
        """Goes over to evaluation mode."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(abc.ABC):
    """One training: of which network, a subclass says.

    Attributes:
      method: ``sgd`` (splits nothing), ``rvsm``, ``admm``, ``magnitude`` (gradual pruning) or ``frozen`` (fine-tuning
        of u as ``start`` left it, a share ``sparsity`` of its weights set to 0).
      penalty: a name of ``chains.penalty_of``, ``top_k`` (of all that is split together) or ``group_top_k`` (of the
        groups of each leaf); of ADMM ``top_k`` or ``signed_percentile``, see ``SignedPercentile``.
      lam: λ; with ``sparsity`` and a penalty that has a λ, the one of that sparsity at the start takes its place.
      beta: β, or ρ of ADMM.
      sparsity: share of zeros wanted, over all that is split together.
      placement: of β(w − u): ``coupled``, before momentum, or ``decoupled``, after it.
      overwrite: whether, with ``rvsm``, w becomes u at the end of each epoch.
      schedule: of the learning rate: ``step`` (a tenth from each of ``milestones``, shares of the epochs, on) or
        ``cosine``.
      key, seed: root of all randomness, and what is folded into it.
      start: the run whose end this one starts from.
      restart: what starts at 0 again with each epoch: ``nothing``, the ``momentum``, or ``all``, ADMM's dual variable
        too.
      dual_every: how often ADMM updates u and its dual variable: once an ``epoch``, or before each ``step``.
      pull_per_layer: whether ADMM's pull ρ(w − u + z) is as many times as large as there are leaves that it splits.
      settle: whether running means are estimated anew for u; else u is evaluated with those of w.
      train_on: ``part`` of the training images, the others held out for choices, or ``all``. Then the test images are
        evaluated on during training, and nothing may be chosen by what is found there.
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
    restart: Literal["nothing", "momentum", "all"] = "nothing"
    dual_every: Literal["epoch", "step"] = "epoch"
    pull_per_layer: bool = False
    settle: bool = True
    train_on: Literal["part", "all"] = "part"

    @abc.abstractmethod
    def make_network(self) -> Network:
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

    def settings(self) -> Facts:
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
        parts = [self.label(), self.method, self.penalty.rpartition(":")[2], strength, f"seed{self.seed}", digest]
        return "-".join(part for part in parts if part)
