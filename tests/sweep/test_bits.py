"""Tests of ``run_sweep``: independent lanes, the same bits in any grid and on any number of devices."""

import jax
import numpy as np
import pytest

import rvsmjax as rv
from rvsmjax.sweep._program import plan

pytestmark = pytest.mark.optimized

LANE = {"penalty": "tl1", "d": 12, "k": 3, "lam": 2e-4, "beta": 5e-3}


def values(result, **index):
    """Returns the data of a lane as bytes."""
    order = tuple(index.get(name, 0) for name in result.grid.shape)
    return {name: array[order].tobytes() for name, array in result.data.items()}


def run(grid, **options):
    return rv.run_sweep(grid, jax.random.key(3), devices=jax.devices()[:1], **options)


@pytest.fixture(scope="module")
def alone():
    return run(rv.Grid(**LANE, seeds=[5]))


def test_a_lane_is_bit_identical_in_grids_of_any_size(alone):
    assert values(run(rv.Grid(**LANE, seeds=10_000)), seed=5) == values(alone)


def test_a_lane_is_bit_identical_beside_other_cells(alone):
    grid = rv.Grid(
        penalty=["l1", "tl1", rv.TransformedL1(3.0)],
        d=[10, 12, 70],
        k=[3, 1],
        lam=[0.0, 2e-4],
        beta=[5e-3, 0.1],
        normalize=[False, True],
        seeds=[9, 300, 5, 1],
    )
    assert values(run(grid), penalty=1, d=1, lam=1, normalize=1, seed=2) == values(alone)


@pytest.mark.slow
def test_a_lane_is_bit_identical_in_the_code_of_a_larger_d():
    axes = LANE | {"penalty": ["l1", "l0", "tl1"], "normalize": [True, False]}

    def runners(seeds):
        """Returns the runner of each kind, ordered by d = 8, 12, 50."""
        grid = rv.Grid(**axes | {"d": [8, 12, 50]}, seeds=seeds)
        (block,) = plan.make_plan(grid, np.dtype(np.float32), tuple(jax.devices()[:1]), progress=False).blocks
        return [block.runner(i) for i in range(18)]

    assert runners(300) == [*range(12, 18)] * 3
    assert runners(10**6) == [*range(18)]
    together = run(rv.Grid(**axes | {"d": [8, 12, 50]}, seeds=300), max_steps=400).data
    for i, d in enumerate((8, 12)):
        alone = run(rv.Grid(**axes | {"d": d}, seeds=300), max_steps=400).data
        for name, array in alone.items():
            np.testing.assert_array_equal(together[name][:, i : i + 1], array, err_msg=name)


def test_a_lane_is_bit_identical_beside_a_larger_d_whose_sums_are_folded():
    alone, beside = (run(rv.Grid(penalty="l1", d=d, k=2, seeds=8), max_steps=160) for d in ([100], [100, 120]))
    assert values(beside, d=0, seed=3) == values(alone, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", ["l1", "l0"])
def test_measures_are_bit_identical_on_any_number_of_devices(penalty):
    grid = rv.Grid(**LANE | {"penalty": penalty, "d": 50}, seeds=600)
    single, several = run(grid).data, rv.run_sweep(grid, jax.random.key(3)).data
    for name, array in single.items():
        np.testing.assert_array_equal(array, several[name], err_msg=name)


def test_a_lane_is_bit_identical_on_any_number_of_devices(alone):
    assert len(jax.devices()) > 1
    whole = rv.run_sweep(rv.Grid(**LANE, seeds=10_000), jax.random.key(3))
    assert values(whole, seed=5) == values(alone)
    single = run(rv.Grid(**LANE, seeds=10_000))
    assert values(single, seed=5) == values(alone)
    for name, array in single.data.items():
        np.testing.assert_array_equal(array, whole.data[name], err_msg=name)


def test_a_diverging_lane_does_not_affect_other_lanes(alone):
    rate = np.float32(1) / (np.float32(5e-3) + np.float32(4))
    grid = rv.Grid(**LANE, learning_rate=[float(rate), 1e4], normalize=[True, False], seeds=[5, 6])
    result = run(grid, max_steps=4000)
    assert result.counts["diverged"] == 2
    lost = result.data["status"] == rv.Status.DIVERGED
    assert lost[..., 1, 1, :].all()
    assert np.isnan(result.data["theta_w"][lost]).all()
    assert np.isfinite(result.data["theta_w"][~lost]).all()
    assert values(result) == values(run(rv.Grid(**LANE, learning_rate=float(rate), seeds=[5])))


@pytest.mark.slow
def test_penalties_of_one_kind_keep_separate_results():
    several = run(rv.Grid(penalty=["tl1", "l0"], a=[0.1, 1.0], d=8, seeds=4))
    for i, a in enumerate([0.1, 1.0]):
        single = run(rv.Grid(penalty=rv.TransformedL1(a), d=8, seeds=4))
        for name, array in single.data.items():
            np.testing.assert_array_equal(array[0], several.data[name][i])
