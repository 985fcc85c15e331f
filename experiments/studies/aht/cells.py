"""The cells of the grid of ``aht``."""

from __future__ import annotations

from typing import NamedTuple


class Cell(NamedTuple):
    """What the seeds of a cell have in common."""

    d: int
    s: int
    k: int
    start: str
    normalize: bool
