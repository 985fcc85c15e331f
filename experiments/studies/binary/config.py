"""Flags of ``binary``."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ...cli.command import Command
from ...cli.estimate import Cost, in_proportion, product
from ...cli.flags import CommonFlags, Names, Numbers, Rates, Steps, Tolerance, WholeNumber, WholeNumbers


@dataclasses.dataclass(frozen=True)
class BinaryConfig(CommonFlags):
    """Run RVSCGD on the one-layer network with binary activation: the paper's Figure 4, and a grid to convergence.

    The grid is all combinations of the values of the flags.
    """

    penalty: Names = ("l1", "l0", "tl1")
    """Penalties: l1, l0, tl1, or a class as MODULE:CLASS."""
    d: WholeNumbers = (10, 20, 50, 100)
    """Dimensions of w; 50 in the paper."""
    k: WholeNumbers = (1, 2, 5, 20, 50)
    """Numbers of patches; 20 in the paper."""
    lam: Numbers = (1e-4,)
    """λ, weight of the penalty."""
    beta: Numbers = (4e-3,)
    """β, weight of the splitting."""
    a: Numbers = (1.0,)
    """Shapes of tl1."""
    learning_rate: Rates = None
    """Learning rates η of the grid; Figure 4 uses the paper's."""
    seeds: WholeNumber = 10_000
    """Random problems per cell."""
    tol: Tolerance = None
    """Residual at which a lane has converged."""
    max_steps: Steps = 100_000
    """Step cap of a lane."""
    figure_runs: WholeNumber = 50
    """Random starts for Figure 4."""
    figure_steps: Steps = 800_000
    """Step cap of a run of Figure 4."""
    precision: Literal["float32", "float64"] = "float64"
    """Floating-point precision of the grid; Figure 4 always uses float64."""
    quick: bool = False
    """Small sizes (d 10, k 1 20, 50 seeds, 3 runs of 20,000 steps) unless flags override them."""

    @classmethod
    def small(cls) -> BinaryConfig:
        """Returns the defaults of ``--quick``."""
        return cls(d=(10,), k=(1, 20), seeds=50, figure_runs=3, figure_steps=20_000)

    def resolved(self) -> BinaryConfig:
        """Returns the config with the default tolerance. The default η depends on k and β, so None stays."""
        return dataclasses.replace(self, tol=self.tolerance())

    def tolerance(self) -> float:
        """Returns ``tol``, by default that of the precision."""
        return self.tol if self.tol is not None else {"float32": 1e-6, "float64": 1e-12}[self.precision]


def work(config: BinaryConfig) -> tuple[int, str]:
    """Returns the amount of work and its unit."""
    from ...penalties.registry import find

    penalties = sum(len(config.a) if find(name).parameter else 1 for name in config.penalty)
    rates = len(config.learning_rate or [0])
    return penalties * product(config, "d", "k", "lam", "beta") * rates * config.seeds, "lanes"


STUDY = Command(
    name="binary",
    config=BinaryConfig,
    run=f"{__package__}.run:run",
    workload=in_proportion("binary", Cost(25, 35, 1.2), work),
    examples=("--quick", "--d 20 --k 1 10 --seeds 1000"),
)
