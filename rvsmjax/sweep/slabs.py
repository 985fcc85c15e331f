"""Slabs: sub-grids of equal shape that let one compiled program run a grid larger than memory."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import NamedTuple

from rvsmjax import _checks
from rvsmjax.sweep.grid import Grid

CUT = ("seed", "learning_rate", "beta", "lam", "k")
"""Axes to cut, in this order: their values are arguments of the compiled program, their lengths are static."""
MIN_SEEDS = 256
"""Seeds that a slab keeps before other axes are cut: about one tile."""


class Slab(NamedTuple):
    """A slab of a grid.

    Attributes:
      grid: the sub-grid to run; all slabs of a grid have the same shape.
      place: slice of the full grid that this slab fills, for each axis.
      own: slice of ``grid`` that holds those lanes. The last slab along an axis overlaps the one before it to keep the
        common shape; ``own`` leaves out the overlap.
    """

    grid: Grid
    place: dict[str, slice]
    own: dict[str, slice]


def slabs(grid: Grid, most_lanes: int = 1_000_000) -> list[Slab]:
    """Cuts a grid into slabs of at most ``most_lanes`` lanes, or of one value on each axis in ``CUT`` that it has.

    A lane's result is bit-identical in a slab and in the full grid.

    Args:
      grid: the full grid.
      most_lanes: upper bound on the lanes of a slab, >= 1.

    Raises:
      ValueError: ``most_lanes`` < 1.

    Example:
      >>> parts = slabs(Grid(penalty="l0", d=10, seeds=1000), most_lanes=400)
      >>> [part.place["seed"] for part in parts]
      [slice(0, 334, None), slice(334, 668, None), slice(668, 1000, None)]
      >>> parts[2].grid.seeds, parts[2].own["seed"]
      (range(666, 1000), slice(2, 334, None))
    """
    most_lanes = _checks.count("most_lanes", most_lanes)
    shape = grid.shape
    lengths = dict(shape)
    cut = [axis for axis in CUT if axis in shape and axis not in grid.axes]
    for axis, shortest in ((cut[0], MIN_SEEDS), *((axis, 1) for axis in (*cut[1:], cut[0]))):
        others = math.prod(lengths.values()) // lengths[axis]
        count = -(-shape[axis] // min(shape[axis], max(shortest, most_lanes // others)))
        lengths[axis] = -(-shape[axis] // count)  # even lengths, so the last slab overlaps little
    pieces = [[(axis, start) for start in range(0, shape[axis], lengths[axis])] for axis in cut]
    parts = []
    for starts in itertools.product(*pieces):
        in_full = {axis: slice(0, n) for axis, n in shape.items()}
        in_slab, values = dict(in_full), {}
        for axis, start in starts:
            n = lengths[axis]
            first = min(start, shape[axis] - n)
            in_full[axis] = slice(start, min(start + n, shape[axis]))
            in_slab[axis] = slice(start - first, n)
            name = "seeds" if axis == "seed" else axis
            if getattr(grid, name) is not None:
                values[name] = getattr(grid, name)[first : first + n]
        parts.append(Slab(dataclasses.replace(grid, **values), in_full, in_slab))
    return parts
