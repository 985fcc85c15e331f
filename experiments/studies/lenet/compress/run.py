"""LeNet-5 with ReLU at 71 and 167 times fewer weights: RVSM beside ADMM and magnitude pruning, with equal epochs.

Command: ``python -m experiments lenet5-compress``.

Each seed has one dense network. From it each method trains as many epochs at the same learning rates, then the pattern
it found is frozen and what is left is fine-tuned, again with the same epochs and rates for all. 71 times (ADMM's figure
in the literature) is 98.6 % of zeros, 167 times 99.4 %, over all kernels together; biases are not counted and stay.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from tyro.conf import arg

from experiments.cli.flags import CommonFlags, Names, Numbers, WholeNumber
from experiments.cli.runner import check_axes
from experiments.records.environment import Clock
from experiments.records.folder import BadInput
from experiments.training.study import TrainingConfig, conduct_study

if TYPE_CHECKING:
    from experiments.training.run_store import Study

METHODS: dict[str, dict[str, Any]] = {
    "rvsm-top-k": {"method": "rvsm", "penalty": "top_k", "beta": 0.1},
    "rvsm-l0": {"method": "rvsm", "penalty": "l0", "beta": 0.1},
    "rvsm-tl1": {"method": "rvsm", "penalty": "tl1", "beta": 0.1},
    "admm": {"method": "admm", "beta": 0.003},
    "magnitude": {"method": "magnitude"},
}
"""What differs in the recipes; β (ρ of ADMM) was chosen on the validation images."""
TUNED = "fine-tuned"
SPARED = 50
"""Transformed l1 goes on pulling at what stays: its λ is that of so many times the nonzero weights at the start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lenet5CompressConfig(CommonFlags, TrainingConfig):
    """LeNet-5 on MNIST with few weights: RVSM (top-k, l0, tl1), ADMM, magnitude pruning, from the same dense networks.

    Finished runs are kept under --runs and not trained again; stop the command when you like, it goes on from there.
    """

    epochs: WholeNumber = 12
    """Epochs of the dense network, and of each method from there."""
    data: str = "mnist"
    """Images: mnist, or digits (scikit-learn's, enlarged; nothing to download)."""
    tune_epochs: WholeNumber = 6
    """Epochs of fine-tuning with the pattern frozen."""
    sparsity: Numbers = (0.986, 0.994)
    """Shares of zeros over all kernels."""
    methods: Annotated[Names, arg(aliases=("--method",))] = tuple(METHODS)
    """Methods: rvsm-top-k, rvsm-l0, rvsm-tl1, admm, magnitude."""
    few_seeds: WholeNumber = 1
    """Runs of each kind for all shares of zeros but the first."""
    quick: bool = False
    """Small sizes (digits, 2 epochs, 1 of fine-tuning, 1 seed, 90 % zeros, 2 methods) where no flag says otherwise."""

    @classmethod
    def small(cls) -> Lenet5CompressConfig:
        """Returns the defaults of ``--quick``."""
        return cls(
            epochs=2, tune_epochs=1, seeds=1, sparsity=(0.9,), methods=("rvsm-top-k", "magnitude"), data="digits"
        )


def run(config: Lenet5CompressConfig, console: Console, clock: Clock) -> Path:
    """Trains what is not there yet and returns the folder of the record.

    Raises:
      BadInput: anything in ``config`` that the user can mend.
    """
    config.check_training("mnist", "digits")
    check_axes(config, "sparsity", "methods")
    for value in config.sparsity:
        if not 0 < value < 1:
            raise BadInput(f"sparsity must be in (0, 1), got {value:g}")
    for name in config.methods:
        if name not in METHODS:
            raise BadInput(f"methods must be among {', '.join(METHODS)}, got {name!r}")
    for name in ("tune_epochs", "few_seeds"):
        if getattr(config, name) < 1:
            raise BadInput(f"{name} must be a whole number >= 1, got {getattr(config, name)}")

    study, title = make_study(config), "LeNet-5 with few weights"
    return conduct_study(
        "lenet5-compress", title, study, config, "experiments.studies.lenet.compress.report", console, clock
    )


def make_study(config: Lenet5CompressConfig) -> Study:
    """Returns the runs: dense, then for each share and seed each method and its fine-tuning."""
    from experiments.studies.lenet.recipes import LeNetRecipe

    common = LeNetRecipe(
        activation="relu", schedule="cosine", shift=2, batch=config.batch, data=config.data, key=config.key
    )
    dense = dataclasses.replace(common, epochs=config.epochs, learning_rate=0.05)
    study: Study = {"dense": [dataclasses.replace(dense, seed=seed) for seed in range(config.seeds)]}
    for place, sparsity in enumerate(config.sparsity):
        for seed in range(config.seeds if place == 0 else config.few_seeds):
            first = dataclasses.replace(dense, seed=seed)
            for name in config.methods:
                share = max(0.1, 1 - SPARED * (1 - sparsity)) if name == "rvsm-tl1" else sparsity
                found = dataclasses.replace(first, **METHODS[name], sparsity=share, start=first)
                tuned = dataclasses.replace(
                    common,
                    epochs=config.tune_epochs,
                    learning_rate=0.02,
                    method="frozen",
                    sparsity=sparsity,
                    seed=seed,
                    start=found,
                )
                for label, recipe in ((name, found), (f"{name}, {TUNED}", tuned)):
                    study.setdefault(entry(label, sparsity), []).append(recipe)
    return study


def entry(label: str, sparsity: float) -> str:
    """Returns the label of a method at a share of zeros."""
    return f"{label}, {100 * sparsity:g} %"
