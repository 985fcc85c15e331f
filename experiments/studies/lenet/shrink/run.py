"""LeNet-5 with whole filters and units at zero, made physically smaller: accuracy, size, time of inference.

Command: ``python -m experiments lenet5-shrink``.

Each seed has one dense network, that of ``lenet5-compress``. From it ``rvsm`` with the top-k of units (of the filters
of both convolutions and of the units behind them, the same share of each) finds which ones stay; the pattern is frozen
and what is left is fine-tuned; ``nets.shrink`` takes the others out. Of the shares asked for, validation chooses: the
largest whose mean accuracy there is at most ``--loss`` points under that of the dense networks.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from experiments.cli.flags import CommonFlags, Number, Numbers, WholeNumber, WholeNumbers
from experiments.cli.runner import check_axes, conduct
from experiments.records.environment import Clock
from experiments.records.folder import BadInput
from experiments.reports.document import Section, fill, to_markdown
from experiments.training.study import TrainingConfig, train_all

if TYPE_CHECKING:
    from experiments.training.run_store import Study

NAME = "lenet5-shrink"
DENSE, TUNED = "dense", "fine-tuned"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lenet5ShrinkConfig(CommonFlags, TrainingConfig):
    """LeNet-5 on MNIST without its idle filters and units: how much smaller and faster, at which accuracy.

    Finished runs are kept under --runs and not trained again; stop the command when you like, it goes on from there.
    """

    epochs: WholeNumber = 12
    """Epochs of the dense network."""
    data: str = "mnist"
    """Images: mnist, or digits (scikit-learn's, enlarged; nothing to download)."""
    share: Numbers = (0.5, 0.7, 0.8)
    """Shares of units set to zero, of each of the three layers before the last."""
    find_epochs: WholeNumber = 8
    """Epochs in which rvsm finds which units stay."""
    tune_epochs: WholeNumber = 4
    """Epochs of fine-tuning with the pattern frozen."""
    loss: Number = 0.2
    """Points of validation accuracy that the chosen share may cost."""
    images: WholeNumbers = (1, 64, 1000)
    """Sizes of the batches whose inference is timed."""
    repeats: WholeNumber = 200
    """Batches of each size and network, in turns, that are timed."""
    quick: bool = False
    """Small sizes (digits, 2 epochs and 1, 1 seed, shares 0.5, 10 repeats) where no flag says otherwise."""

    @classmethod
    def small(cls) -> Lenet5ShrinkConfig:
        """Returns the defaults of ``--quick``."""
        return cls(
            epochs=2, find_epochs=2, tune_epochs=1, seeds=1, share=(0.5,), data="digits", images=(1, 64), repeats=10
        )


def run(config: Lenet5ShrinkConfig, console: Console, clock: Clock) -> Path:
    """Trains what is not there yet and returns the folder of the record.

    Raises:
      BadInput: anything in ``config`` that the user can mend.
    """
    config.check_training("mnist", "digits")
    check_axes(config, "share", "images")
    for value in config.share:
        if not 0 < value < 1:
            raise BadInput(f"share must be in (0, 1), got {value:g}")
    if config.loss < 0:
        raise BadInput(f"loss must be >= 0, got {config.loss:g}")
    for name in ("find_epochs", "tune_epochs", "repeats"):
        if getattr(config, name) < 1:
            raise BadInput(f"{name} must be a whole number >= 1, got {getattr(config, name)}")
    if min(config.images) < 1:
        raise BadInput(f"images must be whole numbers >= 1, got {min(config.images)}")
    study = make_study(config)

    def work(folder: Path) -> tuple[dict[str, Any], Sequence[Section]]:
        from experiments.reports import style
        from experiments.training import report as training_report

        report = importlib.import_module("experiments.studies.lenet.shrink.report")
        with clock.phase("run"):
            outcomes = train_all(study, config, console)
        with clock.phase("measurement"):
            measured = report.measure(study, outcomes, config, folder)
        with clock.phase("report"):
            training_report.frame(outcomes).to_csv(folder / "runs.csv", index=False)
            style.save(report.figure(measured), folder, "inference")
            sections = report.sections(study, outcomes, config, measured)
            if config.docs:
                fill(Path(config.docs), NAME, to_markdown("", sections[:-1]))
        return {"runs": sum(map(len, outcomes.values())), "smaller": measured.facts()}, sections

    return conduct(NAME, "LeNet-5 made smaller", config, console, clock, work)


def make_study(config: Lenet5ShrinkConfig) -> Study:
    """Returns the runs: dense, then for each share what rvsm finds and its fine-tuning."""
    from experiments.studies.lenet.recipes import LeNetRecipe, UnitsRecipe

    options: dict[str, Any] = {"batch": config.batch, "data": config.data, "key": config.key}
    dense = LeNetRecipe(activation="relu", schedule="cosine", shift=2, **options)
    units = UnitsRecipe(activation="relu", schedule="cosine", shift=2, **options)
    dense = dataclasses.replace(dense, epochs=config.epochs, learning_rate=0.05)
    study: Study = {DENSE: [dataclasses.replace(dense, seed=seed) for seed in range(config.seeds)]}
    for share in config.share:
        for first in study[DENSE]:
            own = dataclasses.replace(units, seed=first.seed)
            found = dataclasses.replace(
                own,
                method="rvsm",
                penalty="group_top_k",
                sparsity=share,
                beta=0.1,
                epochs=config.find_epochs,
                learning_rate=0.05,
                start=first,
            )
            tuned = dataclasses.replace(
                own, method="frozen", epochs=config.tune_epochs, learning_rate=0.02, start=found
            )
            study.setdefault(entry("found", share), []).append(found)
            study.setdefault(entry(TUNED, share), []).append(tuned)
    return study


def entry(label: str, share: float) -> str:
    """Returns the label of the runs at a share of units."""
    return f"{100 * share:g} % of units, {label}"
