"""Flags of ``lenet5-compress`` and the runs that they describe."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from ....cli.command import Command
from ....cli.flags import CommonFlags, Names, Numbers, WholeNumber
from ....training.estimate import of_runs
from ....training.study import TrainingConfig

if TYPE_CHECKING:
    from ....training.run_store import Study

METHODS: dict[str, dict[str, Any]] = {
    "rvsm-top-k": {"method": "rvsm", "penalty": "top_k", "beta": 0.1},
    "rvsm-l0": {"method": "rvsm", "penalty": "l0", "beta": 0.1},
    "rvsm-tl1": {"method": "rvsm", "penalty": "tl1", "beta": 0.1},
    "admm": {"method": "admm", "beta": 0.003},
    "magnitude": {"method": "magnitude"},
}
"""Fields of the recipes by method; β (ρ of ADMM) was chosen on validation images."""
TUNED = "fine-tuned"
SPARED = 50
"""Transformed l1 keeps shrinking nonzero weights, so its λ targets this many times as many of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lenet5CompressConfig(CommonFlags, TrainingConfig):
    """Compress LeNet-5 on MNIST with RVSM (top-k, l0, tl1), ADMM and magnitude pruning from the same dense networks.

    Finished runs are stored under --runs and reused. An interrupted command resumes when it is run again.
    """

    epochs: WholeNumber = 12
    """Epochs of the dense network, and of each method after it."""
    data: str = "mnist"
    """Images: mnist, or digits (scikit-learn's, enlarged; nothing to download)."""
    tune_epochs: WholeNumber = 6
    """Epochs of fine-tuning with the pattern frozen."""
    sparsity: Numbers = (0.986, 0.994)
    """Shares of zeros over all kernels."""
    methods: Annotated[Names, arg(aliases=("--method",))] = tuple(METHODS)
    """Methods: rvsm-top-k, rvsm-l0, rvsm-tl1, admm, magnitude."""
    few_seeds: WholeNumber = 1
    """Seeds at all shares of zeros but the first."""
    quick: bool = False
    """Small sizes (digits, 2 epochs, 1 of fine-tuning, 1 seed, 90 % zeros, 2 methods) unless flags override them."""

    @classmethod
    def small(cls) -> Lenet5CompressConfig:
        """Returns the defaults of ``--quick``."""
        return cls(
            epochs=2, tune_epochs=1, seeds=1, sparsity=(0.9,), methods=("rvsm-top-k", "magnitude"), data="digits"
        )


def make_study(config: Lenet5CompressConfig) -> Study:
    """Returns the runs: dense networks, then each method and its fine-tuning at each share and seed."""
    from ..recipes import LeNetRecipe

    common = LeNetRecipe(
        activation="relu", schedule="cosine", shift=2, batch=config.batch, data=config.data, key=config.key
    )
    dense = dataclasses.replace(common, epochs=config.epochs, learning_rate=0.05)
    study: Study = {"dense": [dataclasses.replace(dense, seed=seed) for seed in range(config.seeds)]}
    for i, sparsity in enumerate(config.sparsity):
        for seed in range(config.seeds if i == 0 else config.few_seeds):
            first = dataclasses.replace(dense, seed=seed)
            for name in config.methods:
                share = max(0.1, 1 - SPARED * (1 - sparsity)) if name == "rvsm-tl1" else sparsity
                pruned = dataclasses.replace(first, **METHODS[name], sparsity=share, start=first)
                tuned = dataclasses.replace(
                    common,
                    epochs=config.tune_epochs,
                    learning_rate=0.02,
                    method="frozen",
                    sparsity=sparsity,
                    seed=seed,
                    start=pruned,
                )
                for label, recipe in ((name, pruned), (f"{name}, {TUNED}", tuned)):
                    study.setdefault(entry(label, sparsity), []).append(recipe)
    return study


def entry(label: str, sparsity: float) -> str:
    """Returns the label of a method at a share of zeros."""
    return f"{label}, {100 * sparsity:g} %"


STUDY = Command(
    name="lenet5-compress",
    config=Lenet5CompressConfig,
    run=f"{__package__}.run:run",
    workload=of_runs("lenet5-compress", make_study),
    examples=("--finished", "--methods rvsm-top-k magnitude --sparsity 0.98 --seeds 1", "--quick"),
)
