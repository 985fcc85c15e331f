"""Flags of ``seeds``."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Literal

from ...cli.command import Command
from ...cli.estimate import Cost, in_proportion
from ...cli.flags import CommonFlags, Names, Number, Numbers, WholeNumber

AXES = {"none": [], "top_k": ["beta", "sparsity"]}
"""Axes of the trainings without λ, in addition to the learning rate."""
NUMBERS = ["lam", "beta", "sparsity", "learning_rate"]


@dataclasses.dataclass(frozen=True)
class SeedsConfig(CommonFlags):
    """Train a small network on the digits with many seeds and hyperparameters at once; means with error bars.

    The grid of a penalty is all combinations of the values of its axes.
    """

    penalty: Names = ("none", "l1", "tl1", "l0", "top_k")
    """Penalties: none (no splitting), l1, tl1, l0, top_k (a share of zeros), or a class as MODULE:CLASS."""
    lam: Numbers = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
    """λ of l1, tl1, l0; increases from 0 over two thirds of the steps."""
    beta: Numbers = (1.0, 3.0)
    """β of all penalties except none."""
    sparsity: Numbers = (0.7, 0.8, 0.9, 0.95)
    """Shares of zeros in u with top_k; increase from 0 over two thirds of the steps."""
    learning_rate: Numbers = (0.1,)
    """Initial learning rates η, with cosine decay to 0."""
    a: Number = 1.0
    """Shape a of tl1."""
    network: Literal["dense", "conv"] = "dense"
    """dense: 64-32-10; conv: two convolutions of 8 and 16 channels and 10 classes."""
    seeds: WholeNumber = 10
    """Seeds per setting."""
    epochs: WholeNumber = 40
    """Epochs of a training."""
    batch: WholeNumber = 32
    """Batch size, at most 1,149."""
    min_sparsity: Number = 0.8
    """Minimum mean share of zeros in u of a chosen setting."""
    compared: WholeNumber = 8
    """Seeds also trained in sequence, at most --seeds."""
    rounds: WholeNumber = 5
    """Rounds of timing; the minimum counts."""
    precision: Literal["float32", "float64"] = "float32"
    """Floating-point precision."""
    quick: bool = False
    """Small sizes (l0, λ 0.01 0.1, β 1, 3 seeds, 3 epochs, 1 round) unless flags override them."""

    @classmethod
    def small(cls) -> SeedsConfig:
        """Returns the defaults of ``--quick``."""
        return cls(penalty=("l0",), lam=(0.01, 0.1), beta=(1.0,), seeds=3, epochs=3, min_sparsity=0.1, rounds=1)


def settings(config: SeedsConfig, penalty: str) -> list[dict[str, float]]:
    """Returns the hyperparameters of each setting of a penalty; NaN for absent ones."""
    names = [*AXES.get(penalty, ["lam", "beta"]), "learning_rate"]
    blank = dict.fromkeys(NUMBERS, math.nan)
    values = itertools.product(*(getattr(config, name) for name in names))
    return [blank | dict(zip(names, chosen, strict=True)) for chosen in values]


def work(config: SeedsConfig) -> tuple[int, str]:
    """Returns the amount of work and its unit."""
    lanes = sum(len(settings(config, penalty)) for penalty in config.penalty) * config.seeds
    return lanes * config.epochs, "epochs of networks, side by side"


STUDY = Command(
    name="seeds",
    config=SeedsConfig,
    run=f"{__package__}.run:run",
    workload=in_proportion("seeds", Cost(30, 90, 1.0), work),
)
