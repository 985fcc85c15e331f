"""Recipe of a training: its settings, the file name derived from them, and the interface of a network."""

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

from ..records.folder import BadInput, Facts


class Network(Protocol):
    """A Flax NNX module that returns class scores."""

    def __call__(self, x: Array) -> Array:
        """Returns the scores of images prepared by ``Recipe.preparation``."""

    def eval(self) -> None:
        """Switches to evaluation mode."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(abc.ABC):
    """Settings of one training; subclasses define the network.

    Attributes:
      method: ``sgd`` (no splitting), ``rvsm``, ``admm``, ``magnitude`` (gradual pruning), ``sparsify`` (around the
        whole optimizer, with its defaults; the parameters are u) or ``frozen`` (fine-tuning of u from ``start``, pruned
        to ``sparsity``).
      penalty: a name of ``chains.penalty_of``, ``top_k`` (over all selected leaves) or ``group_top_k`` (groups of each
        leaf); for ADMM ``top_k`` or ``signed_percentile``, see ``SignedPercentile``.
      lam: λ; if ``sparsity`` is given, λ is computed from it instead.
      beta: β, or ρ of ADMM.
      sparsity: target sparsity over all selected leaves.
      loss_lasso: λ of a group lasso in the loss itself, see ``add_group_lasso``; 0 for none.
      follow: whether λ of ``rvsm`` follows a rising sparsity throughout, so that u ends with the target, and the
        sparsity of ``admm`` rises too. Otherwise λ is that of the initial weights, and ``admm`` starts at the target.
      placement: β(w − u) before the momentum (``coupled``) or after it (``decoupled``).
      overwrite: whether ``rvsm`` sets w to u at the end of each epoch.
      schedule: learning rate schedule: ``step`` (times 0.1 at each of ``milestones``), ``cosine``, or ``triangle``
        (linear from 0.2 to 1 and then to 0.07 of the learning rate).
      milestones: fractions of the training at which the learning rate drops.
      warm_up: fraction of the training in which the learning rate first rises linearly: with ``cosine`` from 0.
      label_smoothing: share of each label that is spread over all classes, in the loss trained on and reported.
      decay: leaves with weight decay: ``all``, or only ``kernels``, without scales and biases.
      norm_biases: factor of the gradients of the norms' biases, before weight decay and momentum.
      lookahead: decay of the average that the parameters return to every few steps, see ``lookahead``; 0 for none.
      alternating: whether images are mirrored in every other epoch, instead of at random by ``preparation``.
      key, seed: the root key of all randomness, and the seed folded into it.
      start: run whose final u is the start of this one.
      restart: what is reset to zero before each epoch: ``nothing``, the ``momentum``, or ``all`` (momentum and dual
        variable of ADMM).
      dual_every: whether ADMM updates u and its dual variable once per ``epoch`` or before each ``step``.
      pull_per_layer: whether ADMM's pull ρ(w − u + z) is multiplied by the number of selected leaves.
      settle: whether to estimate running means for u; otherwise u is evaluated with those of w.
      train_on: ``part`` of the training images, with the others held out for validation, or ``all``. With ``all``, the
        evaluations during training use the test images, and nothing may be selected by them.
      evaluate_every: epochs between two evaluations; the last epoch is always evaluated.
      speedrun: whether the record also has the test accuracy with augmentation, and the operations of the training.
    """

    method: Literal["sgd", "rvsm", "admm", "magnitude", "sparsify", "frozen"] = "sgd"
    penalty: str = ""
    lam: float = 0.0
    beta: float = 1.0
    sparsity: float = 0.0
    loss_lasso: float = 0.0
    follow: bool = False
    placement: Literal["coupled", "decoupled"] = "coupled"
    overwrite: bool = False
    epochs: int = 100
    batch: int = 64
    learning_rate: float = 1e-3
    schedule: Literal["step", "cosine", "triangle"] = "step"
    milestones: tuple[float, ...] = (0.6,)
    warm_up: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    decay: Literal["all", "kernels"] = "all"
    label_smoothing: float = 0.0
    norm_biases: float = 1.0
    lookahead: float = 0.0
    alternating: bool = False
    key: int = 0
    seed: int = 0
    start: Recipe | None = None
    restart: Literal["nothing", "momentum", "all"] = "nothing"
    dual_every: Literal["epoch", "step"] = "epoch"
    pull_per_layer: bool = False
    settle: bool = True
    train_on: Literal["part", "all"] = "part"
    evaluate_every: int = 1
    speedrun: bool = False

    def __post_init__(self) -> None:
        """Raises ``BadInput`` for shares outside [0, 1), and for those that do not apply to the schedule or method."""
        for name in ("warm_up", "label_smoothing", "lookahead"):
            if not 0 <= getattr(self, name) < 1:
                raise BadInput(f"{name} must be in [0, 1), got {getattr(self, name):g}")
        if self.warm_up and self.schedule == "step":
            raise BadInput(f"warm_up must be 0 with the schedule {self.schedule!r}, got {self.warm_up:g}")

    @abc.abstractmethod
    def make_network(self) -> Network:
        """Returns the network with random weights from the recipe's key and seed."""

    @abc.abstractmethod
    def preparation(self) -> Callable[[Array, Array, bool], Array]:
        """Returns the ``Prepare`` function of the network; equal recipes return the same object."""

    def fit_to_images(self, network: Network, images: Array) -> None:
        """Sets what a new network computes from uint8 training images; by default nothing."""
        del network, images

    @abc.abstractmethod
    def label(self) -> str:
        """Returns the first word of the name."""

    def mask(self) -> Mask:
        """Returns the mask of leaves to split or prune, see ``rvsmjax.transforms.select``."""
        return None

    def left_out(self) -> tuple[str, ...]:
        """Returns patterns of paths that ``rvsm`` does not split although ``mask`` selects them."""
        return ()

    def settings(self) -> Facts:
        """Returns the fields that differ from their defaults, so new fields do not change existing names."""
        values = {field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)}
        changed = {name: value for name, (value, default) in values.items() if value != default}
        return {name: value.settings() if isinstance(value, Recipe) else value for name, value in changed.items()}

    def keys(self) -> Array:
        """Returns two keys: for the initial weights, and for the order and augmentation of the images."""
        return jax.random.split(jax.random.fold_in(jax.random.key(self.key), self.seed))

    def name(self) -> str:
        """Returns a file name: label, method, penalty, strength, seed and a hash of the settings."""
        digest = hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:8]
        strength = f"{self.sparsity:g}" if self.sparsity else f"{self.lam:g}" if self.lam else ""
        parts = [self.label(), self.method, self.penalty.rpartition(":")[2], strength, f"seed{self.seed}", digest]
        return "-".join(part for part in parts if part)
