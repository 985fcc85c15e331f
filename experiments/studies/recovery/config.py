"""Flags of ``recovery``."""

from __future__ import annotations

import dataclasses

from ...cli.command import Command
from ...cli.estimate import Cost, in_proportion, lanes
from ...cli.flags import CommonFlags, Names, Number, Numbers, Steps, WholeNumber, WholeNumbers


@dataclasses.dataclass(frozen=True)
class RecoveryConfig(CommonFlags):
    """Measure how often RVSM recovers the support of a sparse w* on the one-layer network.

    The grid is all combinations of the values of the flags.
    """

    penalty: Names = ("l1", "l0", "tl1")
    """Penalties: l1, l0, tl1, or a class as MODULE:CLASS."""
    activation: Names = ("relu", "binary")
    """Activations: relu, binary."""
    d: WholeNumbers = (20, 100)
    """Dimensions of w."""
    share: Numbers = (0.05, 0.1, 0.2, 0.5)
    """Shares s/d of components of w* that are not zero; s is rounded."""
    k: WholeNumbers = (1, 10)
    """Numbers of patches."""
    ratio: Numbers = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
    """Ratios λ/β, the step of the prox."""
    beta: Number = 4e-3
    """β, weight of the splitting."""
    a: Number = 1.0
    """Shape of tl1."""
    seeds: WholeNumber = 200
    """Random problems per cell."""
    tol: Number = 1e-10
    """Residual at which a lane has converged."""
    max_steps: Steps = 100_000
    """Step cap of a lane."""
    quick: bool = False
    """Small sizes (l1, d 10, s/d 0.2 0.5, k 2, 4 ratios, 20 seeds) unless flags override them."""

    @classmethod
    def small(cls) -> RecoveryConfig:
        """Returns the defaults of ``--quick``."""
        return cls(penalty=("l1",), d=(10,), share=(0.2, 0.5), k=(2,), ratio=(1e-3, 1e-2, 0.1, 0.3), seeds=20)


def nonzeros(share: float, d: int) -> int:
    """Returns the number s of components of w* that are not zero."""
    return round(share * d)


def work(config: RecoveryConfig) -> tuple[int, str]:
    """Returns the amount of work and its unit."""
    return lanes(config, "penalty", "activation", "d", "share", "k", "ratio")


STUDY = Command(
    name="recovery",
    config=RecoveryConfig,
    run=f"{__package__}.run:run",
    workload=in_proportion("recovery", Cost(170, 60, 2.0), work),
    examples=("--quick", "--d 50 --share 0.1 0.3 --k 2"),
)
