"""Flags of ``lenet-binary`` and the runs that they describe."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ....cli.command import Command
from ....cli.flags import CommonFlags, Numbers, WholeNumber
from ....papers import frontiers_2020 as paper_rvscgd
from ....training.estimate import of_runs
from ....training.study import TrainingConfig
from .settings import SLOPES, settings_study

if TYPE_CHECKING:
    from ....training.run_store import Study

PAPER = {lam or "base": (accuracy, zeros) for _, _, lam, accuracy, zeros in paper_rvscgd.TABLE_1}
"""F Table 1 by λ: accuracy and zeros, in %."""
ASKED, BEST = 0.8376, 0.84
"""Largest share of zeros in the table, and the share of ``--best``."""
OTHERS: dict[str, dict[str, Any]] = {
    "l1, λ = 0.0001": {"penalty": "l1", "lam": 1e-4},
    "l0, λ = 0.001": {"penalty": "l0", "lam": 1e-3},
    "tl1, λ = 0.0001": {"penalty": "tl1", "lam": 1e-4},
    "group l0, λ = 0.4": {"penalty": "group_l0", "lam": 0.4},
    "group tl1, λ = 0.01": {"penalty": "group_tl1", "lam": 1e-2},
    "group l1, λ = 0.04": {"penalty": "group_l1", "lam": 4e-2},
    "channel l1, λ = 0.01": {"penalty": "channel_l1", "lam": 1e-2},
}
"""Other penalties and groups, with β = 1."""
UNITS = "group top-k, 85 % of two layers"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LenetBinaryConfig(CommonFlags, TrainingConfig):
    """Train LeNet with binarized activations on MNIST: F Table 1; with --best, the best accuracy at the same size.

    Finished runs are stored under --runs and reused. An interrupted command resumes when it is run again.
    """

    epochs: WholeNumber = 100
    """Epochs of a run of the table."""
    data: str = "mnist"
    """Images: mnist, or digits (scikit-learn's, enlarged; nothing to download)."""
    lam: Numbers = (1e-7, 1e-5, 1e-3)
    """λ of the group lasso; default those of the table."""
    other_epochs: WholeNumber = 30
    """Epochs of the other penalties and choices, one seed each; 0 skips them."""
    settings_epochs: WholeNumber = 100
    """Epochs of what the paper leaves open, above all by the authors' released code, one seed each; 0 skips them."""
    best: bool = False
    """Train the best network instead of those of the table."""
    best_epochs: WholeNumber = 15
    """Epochs of each stage of --best."""
    quick: bool = False
    """Small sizes (digits, 2 epochs of each, 1 seed, λ 0.001, no other choices) unless flags override them."""

    @classmethod
    def small(cls) -> LenetBinaryConfig:
        """Returns the defaults of ``--quick``."""
        return cls(epochs=2, best_epochs=2, seeds=1, lam=(1e-3,), other_epochs=0, settings_epochs=0, data="digits")


def table_1(config: LenetBinaryConfig) -> Study:
    """Returns the runs of F Table 1: base, group lasso at each λ; then other choices and settings, one seed each."""
    from ..recipes import LeNetRecipe

    base = LeNetRecipe(ste="clipped_relu", epochs=config.epochs, batch=config.batch, data=config.data, key=config.key)
    group = dataclasses.replace(base, method="rvsm", penalty="group_l1")
    study: Study = {"base": [dataclasses.replace(base, seed=seed) for seed in range(config.seeds)]}
    units = dataclasses.replace(base, method="rvsm", penalty="group_top_k", sparsity=0.85)
    study[UNITS] = [dataclasses.replace(units, seed=seed) for seed in range(config.seeds)]
    for lam in config.lam:
        study[f"group l1, λ = {lam:g}"] = [dataclasses.replace(group, lam=lam, seed=s) for s in range(config.seeds)]
    if config.other_epochs:
        short = dataclasses.replace(base, epochs=config.other_epochs)
        for name, settings in OTHERS.items():
            other = dataclasses.replace(short, method="rvsm", **settings)
            study[f"{name}, {config.other_epochs} epochs"] = [other]
        for slope, fields in SLOPES.items():
            if slope != "clipped relu":
                study[f"base, slope of {slope}, {config.other_epochs} epochs"] = [dataclasses.replace(short, **fields)]
    if config.settings_epochs:
        study |= settings_study(dataclasses.replace(base, epochs=config.settings_epochs))
    return study


def best(config: LenetBinaryConfig) -> Study:
    """Returns three stages: dense training, ``rvsm`` with top-k from there, fine-tuning with the pattern frozen."""
    from ..recipes import LeNetRecipe

    common = LeNetRecipe(
        ste="clipped_relu",
        normalize=True,
        schedule="cosine",
        nesterov=True,
        shift=2,
        epochs=config.best_epochs,
        batch=config.batch,
        data=config.data,
        key=config.key,
    )
    study: Study = {"dense": [], "rvsm, top-k": [], "rvsm, top-k, fine-tuned": []}
    for seed in range(config.seeds):
        dense = dataclasses.replace(common, learning_rate=0.05, seed=seed)
        split = dataclasses.replace(
            dense, learning_rate=0.03, method="rvsm", penalty="top_k", sparsity=BEST, beta=0.1, start=dense
        )
        tuned = dataclasses.replace(common, learning_rate=0.01, seed=seed, method="frozen", sparsity=BEST, start=split)
        for group, recipe in zip(study.values(), (dense, split, tuned), strict=True):
            group.append(recipe)
    return study


def make_study(config: LenetBinaryConfig) -> Study:
    """Returns the runs of the table, or those of ``--best``."""
    return best(config) if config.best else table_1(config)


STUDY = Command(
    name="lenet-binary",
    config=LenetBinaryConfig,
    run=f"{__package__}.run:run",
    workload=of_runs("lenet-binary", make_study),
    examples=("--finished", "--best --seeds 1 --minutes 30", "--quick"),
)
