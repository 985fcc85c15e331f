"""The flags of ``figures``."""

from __future__ import annotations

import dataclasses

from experiments.cli.flags import CommonFlags


@dataclasses.dataclass(frozen=True)
class FiguresConfig(CommonFlags):
    """Draw the paper's Figures 2, 4, 5, 6 and 7 from the library's functions."""
