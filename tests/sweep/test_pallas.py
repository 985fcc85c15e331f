"""The Pallas kernel, as plain JAX: the lanes of XLA's loop to rounding, and blocks that stop alone."""

import jax
import numpy as np
import pytest

import rvsmjax as rv
from rvsmjax.sweep._tiles import loop, pallas


def run(grid, engine, **options):
    return rv.run_sweep(grid, jax.random.key(3), devices=jax.devices()[:1], engine=engine, **options)


def require_close(found, want):
    assert found.counts == want.counts
    near = np.abs(found.data["steps"] - want.data["steps"]) <= loop.CHECK_EVERY
    assert near.mean() > 0.99
    for name in ("theta_w", "theta_u", "gamma", "f_u", "f_u_unit", "dist_w", "lagrangian"):
        np.testing.assert_allclose(found.data[name], want.data[name], rtol=2e-4, atol=5e-5, err_msg=name)
    assert (found.data["zeros"] == want.data["zeros"]).mean() > 0.99


@pytest.mark.parametrize(
    ("penalty", "activation", "normalize"),
    [(["l1", "l0", "tl1"], "relu", True), ("tl1", "relu", False), ("l1", "binary", True)],
)
def test_lanes_are_those_of_the_loop(penalty, activation, normalize):
    grid = rv.Grid(penalty=penalty, d=20, k=[2, 10], seeds=20, activation=activation, normalize=normalize)
    found, want = run(grid, "interpret"), run(grid, "xla")
    assert found.counts["converged"] == grid.size
    require_close(found, want)


def test_in_float64_to_rounding(x64):
    grid = rv.Grid(penalty="l0", d=7, k=3, seeds=30)
    found, want = (run(grid, engine, tol=1e-12) for engine in ("interpret", "xla"))
    for name in ("theta_w", "theta_u", "f_u", "lagrangian"):
        np.testing.assert_allclose(found.data[name], want.data[name], rtol=1e-8, atol=1e-13)
    np.testing.assert_array_equal(found.data["zeros"], want.data["zeros"])


def test_blocks_stop_alone():
    """Lanes with k = 1 end long before those with k = 50 in the same tile."""
    grid = rv.Grid(penalty="l1", d=100, k=[1, 50], seeds=64)
    found = run(grid, "interpret")
    assert pallas.lanes_per_block(100) == 64
    assert found.steps_executed < 0.7 * grid.size * found.data["steps"].max()
    assert found.steps_executed >= found.steps_needed


def test_a_lane_gives_the_same_bits_in_any_grid():
    lane = {"penalty": "tl1", "d": 12, "k": 3}
    alone = run(rv.Grid(**lane, seeds=[5]), "interpret")
    beside = run(rv.Grid(penalty=["l1", "tl1"], d=12, k=[1, 3], seeds=[9, 300, 5]), "interpret")
    for name, values in alone.data.items():
        assert values.ravel()[0].tobytes() == beside.data[name][1, 0, 1, 0, 0, 0, 0, 2].tobytes(), name


def test_lanes_that_diverge_or_reach_the_cap_are_told():
    grid = rv.Grid(penalty="l1", d=5, k=50, learning_rate=[0.1, 1e4], normalize=False, seeds=3)
    found, want = (run(grid, engine, max_steps=200) for engine in ("interpret", "xla"))
    assert found.counts == want.counts
    assert found.counts["diverged"] == found.counts["cap"] == 3


def test_what_the_kernel_lacks_runs_in_the_loop():
    grid = rv.Grid(penalty=[rv.Grouped(rv.L1(), axes=(0,))], d=8, seeds=4)
    found, want = (run(grid, engine) for engine in ("interpret", "xla"))
    for name, values in found.data.items():
        np.testing.assert_array_equal(values, want.data[name])
    assert not pallas.fits(513, True)
    assert [pallas.lanes_per_block(d) for d in (1, 64, 65, 512)] == [128, 128, 64, 16]


def test_an_unknown_engine_is_named():
    with pytest.raises(ValueError, match=r"^engine must be one of auto, xla, cuda, pallas, interpret, got 'triton'$"):
        run(rv.Grid(seeds=1), "triton")
