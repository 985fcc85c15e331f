"""Flags of ``figures``."""

from __future__ import annotations

import dataclasses

from ...cli.command import Command
from ...cli.estimate import Cost, always
from ...cli.flags import CommonFlags


@dataclasses.dataclass(frozen=True)
class FiguresConfig(CommonFlags):
    """Draw the paper's Figures 2, 4, 5, 6 and 7 from the library's functions."""


STUDY = Command(
    name="figures",
    config=FiguresConfig,
    run=f"{__package__}.run:run",
    workload=always("figures", "a few figures", Cost(7, 0, 0.5)),
    examples=("",),
)
