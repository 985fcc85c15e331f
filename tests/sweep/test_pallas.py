"""Tests of the Pallas kernel, interpreted, against XLA's loop."""

import jax
import numpy as np
import pytest

import rvsmjax as rv
from rvsmjax.sweep._tiles import loop, pallas


def run(grid, engine, **options):
    return rv.run_sweep(grid, jax.random.key(3), devices=jax.devices()[:1], engine=engine, **options)


def require_close(result, want):
    assert result.counts == want.counts
    near = np.abs(result.data["steps"] - want.data["steps"]) <= loop.CHECK_EVERY
    assert near.mean() > 0.99
    for name in ("theta_w", "theta_u", "gamma", "f_u", "f_u_unit", "dist_w", "lagrangian"):
        np.testing.assert_allclose(result.data[name], want.data[name], rtol=2e-4, atol=5e-5, err_msg=name)
    assert (result.data["zeros"] == want.data["zeros"]).mean() > 0.99


@pytest.mark.parametrize(
    ("penalty", "activation", "normalize"),
    [
        (["l1", "l0", "tl1"], "relu", True),
        pytest.param("tl1", "relu", False, marks=pytest.mark.slow),
        pytest.param("l1", "binary", True, marks=pytest.mark.slow),
    ],
)
def test_kernel_agrees_with_the_loop(penalty, activation, normalize):
    grid = rv.Grid(penalty=penalty, d=20, k=[2, 10], seeds=20, activation=activation, normalize=normalize)
    result, want = run(grid, "interpret"), run(grid, "xla")
    assert result.counts["converged"] == grid.size
    require_close(result, want)


def test_in_float64_to_rounding(x64):
    grid = rv.Grid(penalty="l0", d=7, k=3, seeds=30)
    result, want = (run(grid, engine, tol=1e-12) for engine in ("interpret", "xla"))
    for name in ("theta_w", "theta_u", "f_u", "lagrangian"):
        np.testing.assert_allclose(result.data[name], want.data[name], rtol=1e-8, atol=1e-13)
    np.testing.assert_array_equal(result.data["zeros"], want.data["zeros"])


def test_blocks_stop_independently():
    """Lanes with k = 1 finish long before lanes with k = 50 in the same tile."""
    grid = rv.Grid(penalty="l1", d=100, k=[1, 50], seeds=64)
    result = run(grid, "interpret")
    assert pallas.lanes_per_block(100) == 64
    assert result.steps_executed < 0.7 * grid.size * result.data["steps"].max()
    assert result.steps_executed >= result.steps_needed


def test_a_lane_is_bit_identical_in_any_grid():
    lane = {"penalty": "tl1", "d": 12, "k": 3}
    alone = run(rv.Grid(**lane, seeds=[5]), "interpret")
    beside = run(rv.Grid(penalty=["l1", "tl1"], d=12, k=[1, 3], seeds=[9, 300, 5]), "interpret")
    for name, values in alone.data.items():
        assert values.ravel()[0].tobytes() == beside.data[name][1, 0, 1, 0, 0, 0, 0, 2].tobytes(), name


def test_diverged_and_capped_lanes_are_reported():
    grid = rv.Grid(penalty="l1", d=5, k=50, learning_rate=[0.1, 1e4], normalize=False, seeds=3)
    result, want = (run(grid, engine, max_steps=200) for engine in ("interpret", "xla"))
    assert result.counts == want.counts
    assert result.counts["diverged"] == result.counts["cap"] == 3


def test_unsupported_lanes_run_in_the_loop():
    grid = rv.Grid(penalty=[rv.Grouped(rv.L1(), axes=(0,))], d=8, seeds=4)
    result, want = (run(grid, engine) for engine in ("interpret", "xla"))
    for name, values in result.data.items():
        np.testing.assert_array_equal(values, want.data[name])
    assert not pallas.fits(513, True)
    assert [pallas.lanes_per_block(d) for d in (1, 64, 65, 512)] == [128, 128, 64, 16]


def test_an_unknown_engine_is_named():
    with pytest.raises(ValueError, match=r"^engine must be one of auto, xla, cuda, pallas, interpret, got 'triton'$"):
        run(rv.Grid(seeds=1), "triton")
