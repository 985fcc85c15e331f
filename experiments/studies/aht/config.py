"""Flags of ``aht``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

from ...cli.command import Command
from ...cli.estimate import Cost, in_proportion
from ...cli.flags import Booleans, CommonFlags, Names, Number, Steps, Tolerance, WholeNumber, WholeNumbers
from .cells import Cell as Cell
from .cells import possible


@dataclasses.dataclass(frozen=True)
class AhtConfig(CommonFlags):
    """Run adaptive hard thresholding from random starts and compare its limits with Theorem 2.

    The grid is all possible combinations of the values of the flags.
    """

    d: WholeNumbers = (10, 20, 50)
    """Dimensions of w."""
    s: WholeNumbers = (1, 2, 5, 10)
    """Numbers of nonzero components of w* and w⁰."""
    k: WholeNumbers = (1, 2, 5, 20)
    """Numbers of patches."""
    start: Names = ("same", "half", "one", "ties", "near", "none", "opposite")
    """Starts: same, half, one (overlap of the supports), ties (equal magnitudes), near (angle just below π),
    none (disjoint supports), opposite (angle π)."""
    learning_rate: Number = 0.5
    """Learning rate η."""
    normalize: Booleans = (False,)
    """Whether w is normalised after each step; the theorem assumes False."""
    seeds: WholeNumber = 700
    """Random problems per cell."""
    tol: Tolerance = None
    """Distance from w* at which a lane has converged; default 1e-10, in float32 1e-5."""
    max_steps: Steps = 10_000_000
    """Step cap of a lane."""
    precision: Literal["float32", "float64"] = "float64"
    """Floating-point precision."""
    quick: bool = False
    """Small sizes (d 10, s 1 4, k 1 5, 20 seeds) unless flags override them."""

    @classmethod
    def small(cls) -> AhtConfig:
        """Returns the defaults of ``--quick``."""
        return cls(d=(10,), s=(1, 4), k=(1, 5), seeds=20)

    def resolved(self) -> AhtConfig:
        """Returns the config with the default tolerance filled in."""
        return dataclasses.replace(self, tol=self.tolerance())

    def tolerance(self) -> float:
        """Returns ``tol``, by default that of the precision."""
        return self.tol or {"float32": 1e-5, "float64": 1e-10}[self.precision]


def cells(config: AhtConfig) -> Iterator[Cell]:
    """Yields the possible cells; those with the same d and similar numbers of steps are adjacent."""
    for normalize in config.normalize:
        for d in config.d:
            for start in config.start:
                for k in sorted(config.k):
                    yield from (Cell(d, s, k, start, normalize) for s in config.s if possible(start, s, d))


def work(config: AhtConfig) -> tuple[int, str]:
    """Returns the amount of work and its unit."""
    return sum(1 for _ in cells(config)) * config.seeds, "lanes"


STUDY = Command(
    name="aht",
    config=AhtConfig,
    run=f"{__package__}.run:run",
    workload=in_proportion("aht", Cost(10, 30, 0.8), work),
)
