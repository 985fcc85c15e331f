"""Fewer points for the same line."""

from __future__ import annotations

import numpy as np

STRAIGHT = 0.003
"""Share of the panel by which ``corners`` may be off."""


def thinned(x: np.ndarray, y: np.ndarray, most: int) -> np.ndarray:
    """Returns the places of about so many points of a line: evenly spread over its length, its bends and its gaps.

    Args:
      x: places, as shares of the panel.
      y: likewise; what is not finite adds no length.
      most: of a line with many bends the points are spread evenly alone.
    """
    if len(x) <= most:
        return np.arange(len(x))
    bends = corners(np.stack([x, y], -1)) if np.isfinite([x, y]).all() else []
    bends = bends if len(bends) <= most // 2 else []
    across = (np.nan_to_num(np.diff(values), nan=0.0, posinf=0.0, neginf=0.0) for values in (x, y))
    length = np.concatenate([[0], np.cumsum(np.hypot(*across))])
    even = np.searchsorted(length, np.linspace(0, length[-1], most - len(bends))).clip(0, len(length) - 1)
    return np.union1d(np.union1d(even, bends), np.flatnonzero(np.isnan(x) | np.isnan(y))).astype(int)


def corners(line: np.ndarray) -> list[int]:
    """Returns the places of the points that a line needs so that none is far off it (Douglas and Peucker).

    Args:
      line: points, of shape (number, 2), as shares of the panel.
    """
    kept, open_parts = {0, len(line) - 1}, [(0, len(line) - 1)]
    while open_parts:
        start, end = open_parts.pop()
        way, inner = line[end] - line[start], line[start + 1 : end] - line[start]
        length = np.hypot(*way)
        # From a point to itself, as around a ring, there is no direction.
        off = np.abs(inner @ [-way[1], way[0]]) / length if length else np.hypot(*inner.T)
        if len(off) and off.max() > STRAIGHT:
            corner = start + 1 + int(off.argmax())
            kept.add(corner)
            open_parts += [(start, corner), (corner, end)]
    return sorted(kept)
