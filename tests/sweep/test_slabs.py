"""Slabs: they cover a grid once, have one shape, and give the bits of the whole."""

import jax
import numpy as np
import pytest

import rvsmjax as rv
from rvsmjax.sweep import slabs
from rvsmjax.sweep._program import program


@pytest.mark.parametrize("most", [1, 7, 300, 1000, 2500, 10**6])
def test_they_cover_a_grid_once_and_have_one_shape(most):
    grid = rv.Grid(penalty=["l1", "tl1"], d=[5, 6], k=[1, 2, 3], beta=[0.1, 0.2], learning_rate=0.1, seeds=301)
    parts = slabs(grid, most)
    seen = np.zeros(tuple(grid.shape.values()), int)
    for part in parts:
        assert part.grid.shape == parts[0].grid.shape
        assert part.grid.size <= max(most, 4)  # two penalties and two d are not cut
        place = seen[tuple(part.place[axis] for axis in grid.shape)]
        own = np.empty(tuple(part.grid.shape.values()))[tuple(part.own[axis] for axis in grid.shape)]
        assert place.shape == own.shape
        seen[tuple(part.place[axis] for axis in grid.shape)] += 1
        for axis in ("k", "beta", "seeds"):
            name = axis.removesuffix("s") if axis == "seeds" else axis
            values, here = getattr(grid, axis)[part.place[name]], getattr(part.grid, axis)[part.own[name]]
            assert tuple(values) == tuple(here)
    assert (seen == 1).all()
    assert len(parts) >= -(-grid.size // max(most, 4))


def test_seeds_are_cut_before_other_axes():
    shapes = [slabs(rv.Grid(penalty="l0", d=5, k=[1, 2], seeds=1000), most)[0].grid.shape for most in (1000, 512, 100)]
    assert [(shape["k"], shape["seed"]) for shape in shapes] == [(2, 500), (2, 250), (1, 100)]


def test_most_lanes_is_checked():
    with pytest.raises(ValueError, match=r"^most_lanes must be "):
        slabs(rv.Grid(), 0)


def test_bits_are_those_of_the_whole_and_one_program_runs_all():
    grid = rv.Grid(penalty=["l0", "tl1"], d=6, k=[1, 2, 4], seeds=[7, 3, 1, 12, 5])
    whole = rv.run_sweep(grid, jax.random.key(2))
    before = program.compile_plan.cache_info().misses
    parts = slabs(grid, 16)
    assert len(parts) > 2
    for part in parts:
        found = rv.run_sweep(part.grid, jax.random.key(2))
        for name, values in found.data.items():
            own = values[tuple(part.own[axis] for axis in grid.shape)]
            want = whole.data[name][tuple(part.place[axis] for axis in grid.shape)]
            assert own.tobytes() == want.tobytes()
    assert program.compile_plan.cache_info().misses == before + 1
