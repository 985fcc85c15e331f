"""LeNet-5 with whole filters and units at zero, made physically smaller: accuracy, size, time of inference.

Command: ``python -m experiments lenet5-shrink``.

Each seed has one dense network, that of ``lenet5-compress``. From it ``rvsm`` with the top-k of units (of the filters
of both convolutions and of the units behind them, the same share of each) finds which ones stay; the pattern is frozen
and what is left is fine-tuned; ``nets.shrink`` takes the others out. Of the shares asked for, validation chooses: the
largest whose mean accuracy there is at most ``--loss`` points under that of the dense networks.
"""

from experiments.cli.command import Command
from experiments.studies.lenet.shrink.config import Lenet5ShrinkConfig, make_study
from experiments.training.estimate import of_runs

STUDY = Command(
    name="lenet5-shrink",
    config=Lenet5ShrinkConfig,
    run=f"{__name__}.run:run",
    workload=of_runs("lenet5-shrink", make_study),
    examples=("--quick", "--share 0.7 --seeds 1 --runs results/runs", "--dry-run"),
)
