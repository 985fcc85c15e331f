"""VGG-16 and ResNet18 on CIFAR-10: I Tables 1 and 2, and accuracy against sparsity.

Command: ``python -m experiments cifar --net resnet18``.

The full networks need an accelerator; ``--net slim --preset short`` is a small residual network for a few epochs on a
CPU. A run stops at ``--minutes`` and goes on from there; ``experiments.accelerator`` trains the full ones in minutes on
a rented accelerator.
"""

from experiments.cli.command import Command
from experiments.studies.cifar.config import CifarConfig, make_study, settled
from experiments.training.estimate import of_runs

STUDY = Command(
    name="cifar",
    config=CifarConfig,
    run=f"{__name__}.run:run",
    workload=of_runs("cifar", lambda config: make_study(settled(config))),
    examples=(
        "--net slim --preset short --minutes 30",
        "--net resnet18 --method rvsm --penalty l0 --dry-run",
        "--quick",
    ),
)
