"""Cells of the grid of ``aht``."""

from __future__ import annotations

from typing import NamedTuple


class Cell(NamedTuple):
    """Parameters shared by the seeds of a cell."""

    d: int
    s: int
    k: int
    start: str
    normalize: bool


def overlap(start: str, s: int) -> int:
    """Returns the number of indices shared by the supports of w⁰ and w*."""
    return {"half": (s + 1) // 2, "ties": (s + 1) // 2, "one": 1, "none": 0}.get(start, s)


def possible(start: str, s: int, d: int) -> bool:
    """Returns whether the start exists in d dimensions and differs from the other starts."""
    fewest = {"half": 4, "one": 2, "ties": 2, "near": 2}
    return s >= fewest.get(start, 1) and 2 * s - overlap(start, s) <= d
