"""Flags of ``audit``."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from tyro.conf import arg

from ...cli.command import Command
from ...cli.estimate import Cost, in_proportion
from ...cli.flags import CommonFlags, Names, WholeNumber


@dataclasses.dataclass(frozen=True)
class AuditConfig(CommonFlags):
    """Check the papers' claims on many lanes in float64 and search for counterexamples by gradient descent."""

    precision: ClassVar[str] = "float64"

    claims: Names = ()
    """Names of claims; default all."""
    lanes: WholeNumber = 150_000
    """Lanes drawn for each claim."""
    restarts: WholeNumber = 32
    """Starts of the search for each margin; 0 disables the search."""
    iterations: WholeNumber = 100
    """Steps of the search from each start."""
    replay: str = ""
    """Claim to evaluate again on one lane; prints its margins and writes no record."""
    lane: WholeNumber = 0
    """Lane of --replay."""
    docs: Annotated[str, arg(metavar="FILE")] = ""
    """Write the report to this file, too."""
    quick: bool = False
    """Small sizes (256 lanes, 4 restarts, 20 iterations) unless flags override them."""

    @classmethod
    def small(cls) -> AuditConfig:
        """Returns the defaults of ``--quick``."""
        return cls(lanes=256, restarts=4, iterations=20)


def work(config: AuditConfig) -> tuple[int, str]:
    """Returns the amount of work and its unit."""
    from .claims import CLAIMS

    return len(config.claims or CLAIMS) * config.lanes, "lanes of claims"


STUDY = Command(
    name="audit",
    config=AuditConfig,
    run=f"{__package__}.run:run",
    workload=in_proportion("audit", Cost(430, 200, 4.7), work),
    examples=("--quick", "--claims A-soft A-5.2.1 --lanes 10000"),
)
