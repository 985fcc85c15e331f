"""Flags of ``admm``."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ...cli.command import Command
from ...cli.estimate import Cost, in_proportion, lanes
from ...cli.flags import Booleans, CommonFlags, Names, Number, Numbers, Steps, WholeNumber


@dataclasses.dataclass(frozen=True)
class AdmmConfig(CommonFlags):
    """Run RVSM, exact ADMM and ADMM with a gradient step for w on the same problems.

    The grid is all combinations of the values of the flags.
    """

    penalty: Names = ("l1", "l0", "tl1")
    """Penalties: l1, l0, tl1, or a class as MODULE:CLASS."""
    lam: Numbers = (1e-4, 3e-4, 1e-3, 1e-2, 3e-2, 1e-1)
    """λ, weight of the penalty."""
    beta: Numbers = (4e-3, 4e-2)
    """β, weight of ‖w − u‖² in RVSM; ρ in ADMM."""
    nonzero: Numbers = (1.0, 0.2)
    """Shares of nonzero components of w*."""
    normalize: Booleans = (False, True)
    """Whether w stays on the sphere: False as in IntelliSys 2020, True as in arXiv 1812.05719."""
    d: WholeNumber = 20
    """Dimension of w."""
    k: WholeNumber = 2
    """Number of patches."""
    a: Number = 1.0
    """Shape of tl1."""
    seeds: WholeNumber = 20
    """Random problems per cell."""
    tol: Number = 1e-7
    """Residual at which a run has converged."""
    max_steps: Steps = 1500
    """Step cap of a run."""
    precision: Literal["float32", "float64"] = "float64"
    """Floating-point precision."""
    quick: bool = False
    """Small sizes (l1, λ 1e-4 1e-2, β 4e-3, not normalised, 4 seeds, 300 steps) unless flags override them."""

    @classmethod
    def small(cls) -> AdmmConfig:
        """Returns the defaults of ``--quick``."""
        return cls(("l1",), (1e-4, 1e-2), (4e-3,), normalize=(False,), seeds=4, max_steps=300)


def work(config: AdmmConfig) -> tuple[int, str]:
    """Returns the amount of work and its unit."""
    return lanes(config, "penalty", "lam", "beta", "nonzero", "normalize", each=3)


STUDY = Command(
    name="admm",
    config=AdmmConfig,
    run=f"{__package__}.run:run",
    workload=in_proportion("admm", Cost(60, 87, 1.1), work),
)
