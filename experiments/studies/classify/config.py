"""Flags of ``classify``."""

from __future__ import annotations

import dataclasses

from ...cli.command import Command
from ...cli.estimate import Cost, in_proportion, lanes
from ...cli.flags import Booleans, CommonFlags, Names, Number, Numbers, Steps, WholeNumber, WholeNumbers


@dataclasses.dataclass(frozen=True)
class ClassifyConfig(CommonFlags):
    """Run RVSM on the logistic loss of the one-layer ReLU network: does the Lagrangian fall, and where is the limit?

    The grid is all combinations of the values of the flags.
    """

    penalty: Names = ("l1", "l0", "tl1")
    """Penalties: l1, l0, tl1, or a class as MODULE:CLASS."""
    labels: Names = ("random", "certain")
    """How w* gives a label: random (with the probability that the network with w* gives it) or certain (the more
    probable one)."""
    normalize: Booleans = (True, False)
    """Whether w is normalised after each step."""
    lam: Numbers = (1e-4,)
    """λ, weight of the penalty."""
    beta: Number = 4e-3
    """β, weight of the splitting."""
    a: Number = 1.0
    """Shape of tl1."""
    scale: Number = 4.0
    """Factor between the network's output and the logit."""
    d: WholeNumber = 10
    """Dimension of w."""
    k: WholeNumber = 2
    """Number of patches."""
    m: WholeNumbers = (100, 1000, 10_000)
    """Sample sizes. On a sample the loss has no derivative where an input's patch is orthogonal to w."""
    seeds: WholeNumber = 20
    """Random problems per cell."""
    tol: Number = 1e-6
    """Residual at which a lane has converged."""
    max_steps: Steps = 1000
    """Step cap of a lane."""
    quick: bool = False
    """Small sizes (l0, m 100 400, 8 seeds, 200 steps) unless flags override them."""

    @classmethod
    def small(cls) -> ClassifyConfig:
        """Returns the defaults of ``--quick``."""
        return cls(penalty=("l0",), m=(100, 400), seeds=8, max_steps=200)


def work(config: ClassifyConfig) -> tuple[int, str]:
    """Returns the amount of work and its unit."""
    inputs = lanes(config, "penalty", "labels", "normalize", "lam")[0] * sum(config.m)
    return inputs, "inputs"


STUDY = Command(
    name="classify",
    config=ClassifyConfig,
    run=f"{__package__}.run:run",
    workload=in_proportion("classify", Cost(60, 190, 2.0), work),
)
