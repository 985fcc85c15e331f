"""Flags of ``lenet5-shrink`` and the runs that they describe."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ....cli.command import Command
from ....cli.flags import CommonFlags, Number, Numbers, WholeNumber, WholeNumbers
from ....records.folder import Facts
from ....training.estimate import of_runs
from ....training.study import TrainingConfig

if TYPE_CHECKING:
    from ....training.run_store import Study

NAME = "lenet5-shrink"
DENSE, TUNED = "dense", "fine-tuned"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lenet5ShrinkConfig(CommonFlags, TrainingConfig):
    """Remove filters and units of LeNet-5 on MNIST; measure size, inference time and accuracy.

    Finished runs are stored under --runs and reused. An interrupted command resumes when it is run again.
    """

    epochs: WholeNumber = 12
    """Epochs of the dense network."""
    data: str = "mnist"
    """Images: mnist, or digits (scikit-learn's, enlarged; nothing to download)."""
    share: Numbers = (0.5, 0.7, 0.8)
    """Shares of zero units in each of the three layers before the last."""
    find_epochs: WholeNumber = 8
    """Epochs of rvsm, which selects the units to keep."""
    tune_epochs: WholeNumber = 4
    """Epochs of fine-tuning with the pattern frozen."""
    loss: Number = 0.2
    """Allowed loss of validation accuracy, in percentage points."""
    images: WholeNumbers = (1, 64, 1000)
    """Batch sizes of the inference timing."""
    repeats: WholeNumber = 200
    """Timed batches of each size and network, interleaved."""
    quick: bool = False
    """Small sizes (digits, 2 epochs and 1, 1 seed, shares 0.5, 10 repeats) unless flags override them."""

    @classmethod
    def small(cls) -> Lenet5ShrinkConfig:
        """Returns the defaults of ``--quick``."""
        return cls(
            epochs=2, find_epochs=2, tune_epochs=1, seeds=1, share=(0.5,), data="digits", images=(1, 64), repeats=10
        )


def make_study(config: Lenet5ShrinkConfig) -> Study:
    """Returns the runs: dense networks, then rvsm and its fine-tuning at each share."""
    from ..recipes import LeNetRecipe, UnitsRecipe

    options: Facts = {"batch": config.batch, "data": config.data, "key": config.key}
    dense = LeNetRecipe(activation="relu", schedule="cosine", shift=2, **options)
    units = UnitsRecipe(activation="relu", schedule="cosine", shift=2, **options)
    dense = dataclasses.replace(dense, epochs=config.epochs, learning_rate=0.05)
    study: Study = {DENSE: [dataclasses.replace(dense, seed=seed) for seed in range(config.seeds)]}
    for share in config.share:
        for first in study[DENSE]:
            recipe = dataclasses.replace(units, seed=first.seed)
            pruned = dataclasses.replace(
                recipe,
                method="rvsm",
                penalty="group_top_k",
                sparsity=share,
                beta=0.1,
                epochs=config.find_epochs,
                learning_rate=0.05,
                start=first,
            )
            tuned = dataclasses.replace(
                recipe, method="frozen", epochs=config.tune_epochs, learning_rate=0.02, start=pruned
            )
            study.setdefault(entry("found", share), []).append(pruned)
            study.setdefault(entry(TUNED, share), []).append(tuned)
    return study


def entry(label: str, share: float) -> str:
    """Returns the label of the runs at a share of units."""
    return f"{100 * share:g} % of units, {label}"


STUDY = Command(
    name="lenet5-shrink",
    config=Lenet5ShrinkConfig,
    run=f"{__package__}.run:run",
    workload=of_runs("lenet5-shrink", make_study),
    examples=("--quick", "--share 0.7 --seeds 1 --runs results/runs", "--dry-run"),
)
