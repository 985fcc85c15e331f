"""Flags of ``tune``."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ...cli.command import Command
from ...cli.estimate import Cost, in_proportion, product
from ...cli.flags import CommonFlags, Names, Numbers, WholeNumber, WholeNumbers

TUNERS = ("start", "gradient", "grid")
"""The paper's β and a with the λ of the required sparsity; Adam from there; a grid over β and a."""


@dataclasses.dataclass(frozen=True)
class TuneConfig(CommonFlags):
    """Tune λ, β and a for a required share of zeros, per penalty and d, and measure the angle on held-out seeds.

    Each combination of the values of the flags is tuned separately.
    """

    penalty: Names = ("l1", "l0", "tl1")
    """Penalties: l1, l0, tl1, or a class as MODULE:CLASS."""
    d: WholeNumbers = (10, 20, 50)
    """Dimensions of w."""
    sparsity: Numbers = (0.5, 0.8)
    """Required shares of zeros in u."""
    truth_zeros: Numbers = (0.0, 0.4)
    """Shares of zeros in w*, below every --sparsity; 0: uniform on the sphere."""
    k: WholeNumber = 2
    """Number of patches."""
    seeds: WholeNumber = 200
    """Training problems."""
    held_out: WholeNumber = 2000
    """Held-out problems."""
    iterations: WholeNumber = 84
    """Steps of Adam; the grid gets as many solves."""
    precision: Literal["float32", "float64"] = "float32"
    """Floating-point precision."""
    quick: bool = False
    """Small sizes (d 5, one sparsity, 40 seeds, 100 held out, 18 iterations) unless flags override them."""

    @classmethod
    def small(cls) -> TuneConfig:
        """Returns the defaults of ``--quick``."""
        return cls(d=(5,), sparsity=(0.5,), truth_zeros=(0.0,), seeds=40, held_out=100, iterations=18)


def work(config: TuneConfig) -> tuple[int, str]:
    """Returns the amount of work and its unit."""
    cells = product(config, "penalty", "d", "sparsity", "truth_zeros")
    return cells * config.iterations * config.seeds, "solves"


STUDY = Command(
    name="tune",
    config=TuneConfig,
    run=f"{__package__}.run:run",
    workload=in_proportion("tune", Cost(60, 300, 1.2), work),
)
