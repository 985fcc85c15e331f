"""Tests of slabs: cover, shape, and bits of the full grid."""

import jax
import numpy as np
import pytest

import rvsmjax as rv
from rvsmjax.sweep import slabs
from rvsmjax.sweep._program import program

pytestmark = pytest.mark.optimized


@pytest.mark.parametrize("most", [1, 7, 300, 1000, 2500, 10**6])
def test_slabs_cover_a_grid_once_and_share_one_shape(most):
    grid = rv.Grid(penalty=["l1", "tl1"], d=[5, 6], k=[1, 2, 3], beta=[0.1, 0.2], learning_rate=0.1, seeds=301)
    parts = slabs(grid, most)
    seen = np.zeros(tuple(grid.shape.values()), int)
    for part in parts:
        assert part.grid.shape == parts[0].grid.shape
        assert part.grid.size <= max(most, 4)  # the axes penalty and d are not cut
        filled = seen[tuple(part.place[axis] for axis in grid.shape)]
        kept = np.empty(tuple(part.grid.shape.values()))[tuple(part.own[axis] for axis in grid.shape)]
        assert filled.shape == kept.shape
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


def test_slabs_give_the_bits_of_the_full_grid_with_one_program():
    grid = rv.Grid(penalty=["l0", "tl1"], d=6, k=[1, 2, 4], seeds=[7, 3, 1, 12, 5])
    full = rv.run_sweep(grid, jax.random.key(2))
    before = program.compile_plan.cache_info().misses
    parts = slabs(grid, 16)
    assert len(parts) > 2
    for part in parts:
        result = rv.run_sweep(part.grid, jax.random.key(2))
        for name, values in result.data.items():
            kept = values[tuple(part.own[axis] for axis in grid.shape)]
            want = full.data[name][tuple(part.place[axis] for axis in grid.shape)]
            assert kept.tobytes() == want.tobytes()
    assert program.compile_plan.cache_info().misses == before + 1
