"""Flags of ``samples``."""

from __future__ import annotations

import dataclasses

from ...cli.command import Command
from ...cli.estimate import Cost, in_proportion
from ...cli.flags import CommonFlags, Names, Number, Numbers, Steps, WholeNumber, WholeNumbers

MOST_INPUTS = 10**6
"""Sample size times seeds of a cell: larger samples have fewer seeds."""
LEAST_SEEDS = 5


@dataclasses.dataclass(frozen=True)
class SamplesConfig(CommonFlags):
    """Run RVSM on samples of m inputs and compare its limits with those of the population loss.

    The grid is all combinations of the values of the flags.
    """

    penalty: Names = ("l1",)
    """Penalties: l1, l0, tl1, or a class as MODULE:CLASS."""
    law: Names = ("gaussian", "uniform", "signs", "student")
    """Distributions of the inputs' components, of variance 1: gaussian, uniform, signs (±1), student (5 degrees of
    freedom)."""
    m: WholeNumbers = (50, 100, 200, 500, 1000, 5000, 20_000, 100_000, 1_000_000)
    """Sample sizes; without a closed form only those up to a tenth of --reference are run."""
    noise: Numbers = (0.0, 0.1)
    """Standard deviations of the labels' Gaussian noise."""
    batch: WholeNumbers = (0,)
    """Inputs of a minibatch, drawn with replacement in each step; 0 for the whole sample."""
    stride: WholeNumbers = (0,)
    """Distances between the patches of an input; below d they overlap; 0 for d, no overlap."""
    d: WholeNumber = 10
    """Dimension of w."""
    k: WholeNumber = 2
    """Number of patches."""
    lam: Number = 1e-4
    """λ, weight of the penalty."""
    beta: Number = 4e-3
    """β, weight of the splitting."""
    a: Number = 1.0
    """Shape of tl1."""
    seeds: WholeNumber = 200
    """Random problems per cell; fewer of large samples: at most a million inputs in all, at least 5 seeds."""
    reference: WholeNumber = 50_000
    """Sample size that stands in for the population where its loss has no closed form."""
    max_steps: Steps = 20_000
    """Step cap of a lane. With noise each takes 400 steps, with minibatches 2,000: the learning rate falls to 0."""
    quick: bool = False
    """Small sizes (l1, gaussian and student, m 50 200 1000, 40 seeds, reference 10,000) unless flags override them."""

    @classmethod
    def small(cls) -> SamplesConfig:
        """Returns the defaults of ``--quick``."""
        return cls(penalty=("l1",), law=("gaussian", "student"), m=(50, 200, 1000), seeds=40, reference=10_000)

    def seeds_at(self, m: int) -> int:
        """Returns the number of seeds with samples of size m."""
        return min(self.seeds, max(LEAST_SEEDS, MOST_INPUTS // m))

    def closed_form(self, law: str, stride: int) -> bool:
        """Returns whether the population loss of inputs of this kind has a closed form."""
        return law == "gaussian" and stride in (0, self.d)

    def sizes(self, law: str, stride: int) -> tuple[int, ...]:
        """Returns the sample sizes for inputs of a kind: without a closed form those up to a tenth of the reference."""
        most = max(self.m) if self.closed_form(law, stride) else self.reference // 10
        return tuple(m for m in self.m if m <= most)


def work(config: SamplesConfig) -> tuple[int, str]:
    """Returns the amount of work and its unit."""
    inputs = 0
    for law in config.law:
        for stride in config.stride:
            sizes = config.sizes(law, stride)
            inputs += len(config.noise) * len(config.batch) * sum(m * config.seeds_at(m) for m in sizes)
            inputs += 0 if config.closed_form(law, stride) else config.reference * config.seeds_at(config.reference)
    return len(config.penalty) * inputs, "inputs"


STUDY = Command(
    name="samples",
    config=SamplesConfig,
    run=f"{__package__}.run:run",
    workload=in_proportion("samples", Cost(60, 325, 4.0), work),
    examples=("--quick", "--law gaussian --batch 0 10 --m 100 1000", "--stride 1 5 --noise 0"),
)
