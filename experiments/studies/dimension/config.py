"""Flags of ``dimension``."""

from __future__ import annotations

import dataclasses

from ...cli.command import Command
from ...cli.estimate import Cost, in_proportion
from ...cli.flags import CommonFlags, Names, Number, Numbers, Steps, WholeNumber, WholeNumbers


@dataclasses.dataclass(frozen=True)
class DimensionConfig(CommonFlags):
    """Run RVSM on the one-layer network over d at fixed λ and β, and count the limits with ū = 0.

    The grid is all combinations of penalties, their shapes and d.
    """

    penalty: Names = ("l1", "l0", "tl1")
    """Penalties: l1, l0, tl1, or a class with a fixed threshold as MODULE:CLASS."""
    d: WholeNumbers = (50, 100, 150, 200, 300, 400, 600, 800)
    """Dimensions of w."""
    k: WholeNumber = 2
    """Number of patches; 2 in the paper."""
    lam: Number = 1e-4
    """λ, weight of the penalty."""
    beta: Number = 4e-3
    """β, weight of the splitting."""
    a: Numbers = (1.0,)
    """Shapes of tl1."""
    seeds: WholeNumber = 4000
    """Random problems per penalty and d."""
    tol: Number = 1e-12
    """Residual at which a lane has converged."""
    max_steps: Steps = 100_000
    """Step cap of a lane."""
    quick: bool = False
    """Small sizes (d 20 150, 50 seeds) unless flags override them."""

    @classmethod
    def small(cls) -> DimensionConfig:
        """Returns the defaults of ``--quick``."""
        return cls(d=(20, 150), seeds=50)


def work(config: DimensionConfig) -> tuple[int, str]:
    """Returns the amount of work and its unit."""
    from ...penalties.registry import find

    penalties = sum(len(config.a) if find(name).parameter else 1 for name in config.penalty)
    return penalties * sum(config.d) * config.seeds, "components of w"


STUDY = Command(
    name="dimension",
    config=DimensionConfig,
    run=f"{__package__}.run:run",
    workload=in_proportion("dimension", Cost(45, 30, 2.0), work),
    examples=("--quick", "--penalty tl1 --d 5000 7000 9000 --seeds 200"),
)
