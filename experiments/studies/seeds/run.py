"""A seed study: one small network under many seeds and hyperparameters in one vmapped training for each penalty.

Digits of 8 × 8 pixels; λ, β, the sparsity and the learning rate are traced, so only another penalty is compiled anew.
A lane's numbers depend on its own seed and hyperparameters alone; lanes of one seed share first weights and the order
of the images, so penalties can be compared seed by seed. Settings are chosen by validation images; the test images are
looked at once, at the end, by the chosen ones.

Command: ``python -m experiments seeds``; ``--network conv`` for the convolutional one.

Expected at the defaults (450 trainings): test accuracy of u, in %, with 95 % intervals, at 80 % zeros or more: top-k
96.6 ± 0.3, Tl1 96.4 ± 0.5, l0 96.2 ± 0.2, l1 96.0 ± 0.2; without a penalty 96.9 ± 0.3. On two idle cores eight seeds
together (l1, l0, none, 10 epochs) are 2.3 times as fast as eight compiled runs one after another: 1.3 times by ``vmap``
alone, the rest by the second core; ``conv`` 2.2 times. In float64 their weights agree to 1e-12; in float32 those of
``dense`` to 1e-5 but for seeds in which rounding is amplified (3e-3), and those of ``conv`` drift apart in 20 epochs.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from experiments.cli.flags import CommonFlags, Names, Number, Numbers, WholeNumber
from experiments.cli.interrupts import in_thread, mendable
from experiments.cli.runner import check_axes, conduct
from experiments.records.environment import Clock
from experiments.records.folder import BadInput


@dataclasses.dataclass(frozen=True)
class SeedsConfig(CommonFlags):
    """Train a small network on the digits under many seeds and hyperparameters at once; means with error bars.

    Flags in the plural take one value or more; the grid of a penalty is every combination of the axes it has.
    """

    penalty: Names = ("none", "l1", "tl1", "l0", "top_k")
    """Penalties: none (no splitting), l1, tl1, l0, top_k (a share of zeros)."""
    lam: Numbers = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
    """Values of λ, for l1, tl1, l0; each rises from 0 over two thirds of the steps."""
    beta: Numbers = (1.0, 3.0)
    """Values of β, for all but none."""
    sparsity: Numbers = (0.7, 0.8, 0.9, 0.95)
    """Shares of zeros in u, for top_k; each rises from 0 over two thirds of the steps."""
    learning_rate: Numbers = (0.1,)
    """Learning rates η at the start; they fall to 0 as a cosine."""
    a: Number = 1.0
    """Parameter a of tl1."""
    network: Literal["dense", "conv"] = "dense"
    """64-32-10, or two convolutions of 8 and 16 channels and 10 classes."""
    seeds: WholeNumber = 10
    """Seeds of each setting."""
    epochs: WholeNumber = 40
    """Epochs of a training."""
    batch: WholeNumber = 32
    """Images a step, of 1,149."""
    min_sparsity: Number = 0.8
    """Mean share of zeros that u must have for a setting to be chosen."""
    compared: WholeNumber = 8
    """Seeds that are also trained one after another, at most --seeds."""
    rounds: WholeNumber = 5
    """Turns in which the ways of training are timed; the least counts."""
    precision: Literal["float32", "float64"] = "float32"
    """Floating point numbers."""
    quick: bool = False
    """Small sizes (l0, λ 0.01 0.1, β 1, 3 seeds, 3 epochs, 1 round) where no flag says otherwise."""

    @classmethod
    def small(cls) -> SeedsConfig:
        """Returns the defaults of ``--quick``."""
        return cls(penalty=("l0",), lam=(0.01, 0.1), beta=(1.0,), seeds=3, epochs=3, min_sparsity=0.1, rounds=1)


def run(config: SeedsConfig, console: Console, clock: Clock) -> Path:
    """Trains all lanes and returns the folder of the record.

    Raises:
      BadInput: anything in ``config`` that the user can mend.
    """
    _check(config)

    def work(folder: Path) -> tuple[dict[str, Any], Any]:
        from experiments.reports import style
        from experiments.studies.seeds import figures as seeds_plots
        from experiments.studies.seeds import report as seeds_report
        from experiments.studies.seeds import study as seeds_study
        from experiments.studies.seeds import summary as seeds_summary

        with clock.phase("run"):
            study = in_thread(lambda: seeds_study.conduct_study(config))
        with clock.phase("report"):
            summary = seeds_summary.summarize(study.lanes)
            study.lanes.to_csv(folder / "lanes.csv", index=False)
            study.curves.to_csv(folder / "curves.csv.gz", index=False)
            summary.to_csv(folder / "summary.csv", index=False)
            for name, figure in seeds_plots.figures(summary, study).items():
                style.save(figure, folder, name)
        ways = {name: timing._asdict() for name, timing in study.timings.items()}
        apart = {penalty: own._asdict() for penalty, own in study.differences.items()}
        facts = {"lanes": len(study.lanes), "timings": ways, "differences": apart}
        return facts, seeds_report.sections(summary, study, config)

    return conduct("seeds", "A seed study on the digits", config, console, clock, work)


def _check(config: SeedsConfig) -> None:
    """Raises ``BadInput`` for what no run can be made of."""
    from experiments.data.digits import LEARNT
    from experiments.studies.seeds.grid import AXES
    from rvsmjax import _checks

    check_axes(config, "penalty", "lam", "beta", "sparsity", "learning_rate")
    unknown = [name for name in config.penalty if name not in AXES]
    if unknown:
        raise BadInput(f"penalty must be one of {', '.join(AXES)}, got {unknown[0]!r}")
    with mendable():
        for name, least in (("seeds", 2), ("epochs", 1), ("batch", 1), ("compared", 1), ("rounds", 1)):
            _checks.integer(name, getattr(config, name), at_least=least)
        for value in config.lam:
            _checks.nonnegative("lam", value)
        for name in ("beta", "learning_rate"):
            for value in getattr(config, name):
                _checks.positive(name, value)
        _checks.positive("a", config.a)
        for value in config.sparsity:
            _checks.fraction("sparsity", value)
        _checks.fraction("min_sparsity", config.min_sparsity)
    if config.batch > LEARNT:
        raise BadInput(f"batch must be at most {LEARNT:,}, the images to learn from, got {config.batch}")
    if config.seeds > 2**32:
        raise BadInput(f"seeds must be at most 2**32, got {config.seeds}")
