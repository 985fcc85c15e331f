"""Grids larger than memory, cut into slabs that the same compiled program runs one after another."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import NamedTuple

from rvsmjax import _checks
from rvsmjax.sweep.grid import Grid

CUT = ("seed", "learning_rate", "beta", "lam", "k")
"""Axes that are cut, in this order: their values are arguments of the compiled program, their lengths are not."""
LEAST_SEEDS = 256
"""Seeds of a slab, at least, before other axes are cut: a tile's worth."""


class Slab(NamedTuple):
    """A part of a grid.

    Attributes:
      grid: what is run; every slab of a grid has one of the same shape.
      place: where its lanes stand in the whole grid, a slice for each axis.
      own: which lanes of ``grid`` those are. The last slab of an axis begins earlier than it has to, so that its shape
        is that of the others; what it repeats is left out here.
    """

    grid: Grid
    place: dict[str, slice]
    own: dict[str, slice]


def slabs(grid: Grid, most_lanes: int = 1_000_000) -> list[Slab]:
    """Returns the slabs of a grid, of at most ``most_lanes`` lanes each, or of one value on each axis that is cut.

    A lane's result depends on nothing but itself: run in slabs it is, to the bit, what it is in the whole grid.

    Args:
      grid: the whole.
      most_lanes: >= 1.

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
    for axis, least in ((CUT[0], LEAST_SEEDS), *((axis, 1) for axis in (*CUT[1:], CUT[0]))):
        others = math.prod(lengths.values()) // lengths[axis]
        count = -(-shape[axis] // min(shape[axis], max(least, most_lanes // others)))
        lengths[axis] = -(-shape[axis] // count)  # as even as can be: the last repeats few lanes
    pieces = [[(axis, start) for start in range(0, shape[axis], lengths[axis])] for axis in CUT]
    found = []
    for starts in itertools.product(*pieces):
        place = {axis: slice(0, n) for axis, n in shape.items()}
        own, values = dict(place), {}
        for axis, start in starts:
            n = lengths[axis]
            first = min(start, shape[axis] - n)
            place[axis] = slice(start, min(start + n, shape[axis]))
            own[axis] = slice(start - first, n)
            name = "seeds" if axis == "seed" else axis
            if getattr(grid, name) is not None:
                values[name] = getattr(grid, name)[first : first + n]
        found.append(Slab(dataclasses.replace(grid, **values), place, own))
    return found
