"""The flags of ``audit``."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from tyro.conf import arg

from ...cli.command import Command
from ...cli.estimate import Cost, in_proportion
from ...cli.flags import CommonFlags, Names, WholeNumber


@dataclasses.dataclass(frozen=True)
class AuditConfig(CommonFlags):
    """Check each claim of the papers on many lanes in float64, and search for counterexamples by gradient descent."""

    precision: ClassVar[str] = "float64"

    claims: Names = ()
    """Claims by name; all where none is given."""
    lanes: WholeNumber = 150_000
    """Lanes drawn for each claim."""
    restarts: WholeNumber = 32
    """Starts of the search for each margin of a claim; 0 leaves it out."""
    iterations: WholeNumber = 100
    """Steps of the search from each start."""
    replay: str = ""
    """Claim of which one lane is run again and shown, without a record."""
    lane: WholeNumber = 0
    """The lane to replay."""
    docs: Annotated[str, arg(metavar="FILE")] = ""
    """File that the report is also written to."""
    quick: bool = False
    """Small sizes (256 lanes, 4 restarts, 20 iterations) where no flag says otherwise."""

    @classmethod
    def small(cls) -> AuditConfig:
        """Returns the defaults of ``--quick``."""
        return cls(lanes=256, restarts=4, iterations=20)


def work(config: AuditConfig) -> tuple[int, str]:
    """Returns how much a config asks for, and of what."""
    from .claims import CLAIMS

    return len(config.claims or CLAIMS) * config.lanes, "lanes of claims"


STUDY = Command(
    name="audit",
    config=AuditConfig,
    run=f"{__package__}.run:run",
    workload=in_proportion("audit", Cost(360, 380, 3.7), work),
    examples=("--quick", "--claims A-soft A-5.2.1 --lanes 10000"),
)
