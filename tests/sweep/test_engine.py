"""Tests of ``run_sweep``: correct limits, one compiled program, options."""

import dataclasses
import functools
import itertools
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.certificate import certificate, largest_learning_rate
from rvsmjax.sweep._program import arguments, plan, program, runners
from rvsmjax.sweep._tiles import loop
from rvsmjax.sweep.result import labels


def run(grid, **options):
    return rv.run_sweep(grid, jax.random.key(3), devices=jax.devices()[:1], **options)


@pytest.mark.usefixtures("no_compilation_cache")
def test_new_values_reuse_the_compiled_program(monkeypatch):
    compiled = []
    calls = []
    real = program.compile_plan.__wrapped__

    def counted(plan, impl):
        run = real(plan, impl)
        compiled.append(plan)
        return lambda *arguments: calls.append(plan) or run(*arguments)

    monkeypatch.setattr(program, "compile_plan", functools.lru_cache(counted))
    traced = []
    run_tile = runners.run_tile
    monkeypatch.setattr(runners, "run_tile", lambda *arguments: traced.append(1) or run_tile(*arguments))
    first = run(rv.Grid(penalty=["l1", "tl1"], d=[5, 6], k=[2, 7], a=1.0, learning_rate=0.2, seeds=3))
    assert len(traced) >= 4  # for each penalty and d
    traced.clear()
    events = []
    listen = lambda name, *_, **__: events.append(name)  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listen)
    rv.run_sweep(
        rv.Grid(
            penalty=["l1", "tl1"], d=[5, 6], k=[1, 9], lam=3e-3, beta=0.1, a=0.3, learning_rate=0.1, seeds=[7, 8, 9]
        ),
        jax.random.key(11),
        tol=1e-5,
        devices=jax.devices()[:1],
    )
    assert len(compiled) == 1
    assert len(calls) == 2
    assert not traced
    assert not [name for name in events if "compile" in name and "backend" in name]
    assert first.compile_seconds > 0


@pytest.mark.parametrize(
    ("penalties", "activation", "normalize"),
    [
        (("tl1",), "binary", True),
        (("l1",), "relu", False),
        pytest.param(("l1", "l0", "tl1"), "relu", True, marks=pytest.mark.slow),
    ],
)
def test_lanes_agree_with_solve(penalties, activation, normalize):
    grid = rv.Grid(penalty=penalties, d=20, k=[2, 10], seeds=5, activation=activation, normalize=normalize)
    result = run(grid)
    assert result.counts == {"converged": grid.size, "cap": 0, "diverged": 0}

    def limit(penalty, k, seed):
        drawn = jax.random.normal(jax.random.fold_in(jax.random.key(3), seed), (2, plan.ROWS))[:, :20]
        w_star, w0 = drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)
        problem = rv.NoOverlapReLU(k) if activation == "relu" else rv.NoOverlapBinary(k)
        links = [rv.rvsm(penalty, 1e-4, 4e-3), optax.sgd(largest_learning_rate(4e-3, problem))]
        chain = optax.chain(*links, rv.unit_sphere()) if normalize else optax.chain(*links)
        run = rv.solve(problem, chain, w0, w_star, tol=1e-6, check_every=loop.CHECK_EVERY)
        return run.steps, run.converged, certificate(problem, penalty, 1e-4, 4e-3, run.w, w_star)

    lanes = jnp.repeat(jnp.asarray([2.0, 10.0]), 5), jnp.tile(jnp.arange(5), 2)
    for i, penalty in enumerate(grid.values.penalty):
        steps, converged, want = jax.jit(jax.vmap(functools.partial(limit, penalty)))(*lanes)
        assert converged.all()
        got = {name: array[i].ravel() for name, array in result.data.items()}
        # A residual close to the tolerance may fall below it one check earlier or later.
        assert np.abs(got["steps"] - steps).max() <= loop.CHECK_EVERY
        for name in ("theta_w", "theta_u", "gamma", "f_u", "f_u_unit", "dist_w", "lagrangian"):
            np.testing.assert_allclose(got[name], getattr(want, name), rtol=2e-4, atol=5e-5, err_msg=name)
        np.testing.assert_array_equal(got["zeros"], want.zeros)


def test_limits_satisfy_the_equilibrium_relation(x64):
    result = run(rv.Grid(d=[10], k=[1, 2, 20], seeds=50), tol=1e-12)
    assert result.counts["converged"] == result.grid.size
    assert result.data["theta_w"].dtype == np.float64
    assert np.max(result.data["residual"]) < 1e-11
    assert np.min(result.data["slack_13"]) > 0
    single = run(rv.Grid(d=[10], k=[1, 2, 20], seeds=50), dtype=np.float32)
    assert np.max(single.data["residual"]) < 2e-6


def test_binary_limits_satisfy_the_binary_equilibrium_relation(x64):
    result = run(rv.Grid(d=[10], k=[1, 2, 20], seeds=50, activation="binary"), tol=1e-12)
    assert result.counts["converged"] == result.grid.size
    lanes = result.to_xarray()
    assert float(lanes.residual.max()) < 1e-11
    # (c/2) sin θ = β‖u‖ sin γ, with ‖u‖ = cos γ after hard thresholding.
    pull, gamma = lanes.k / (2 * np.pi) * np.sin(lanes.theta_w), lanes.gamma.sel(penalty="l0")
    assert float(abs(pull.sel(penalty="l0") - 4e-3 * np.cos(gamma) * np.sin(gamma)).max()) < 1e-11
    assert float(abs(lanes.f_w - lanes.k * lanes.theta_w / (2 * np.pi)).max()) < 1e-12
    assert float(lanes.slack_13.min()) > 0


def test_binary_lanes_converge_in_float32_at_many_patches():
    result = run(rv.Grid(penalty="l0", d=50, k=50, seeds=500, activation="binary"), max_steps=200)
    assert result.counts["converged"] == result.grid.size


def test_the_default_learning_rate_depends_on_the_activation():
    grid = rv.Grid(penalty="l1", d=4, k=[1, 20], beta=[4e-3, 0.5], seeds=1, activation="binary")
    lanes = labels(grid, 1e-6)
    assert lanes.eta.dims == ("k", "beta", "learning_rate")
    want = [[min(1 / (b + k / (2 * np.pi)), 2 * np.sqrt(2 * np.pi) / k) for b in (4e-3, 0.5)] for k in (1, 20)]
    np.testing.assert_allclose(lanes.eta[:, :, 0], want, rtol=1e-6)
    assert lanes.attrs["activation"] == "binary"


def test_without_the_sphere_a_binary_limit_needs_w_to_be_u():
    grid = rv.Grid(
        penalty="l1", d=4, lam=[0.0, 1e-3], normalize=False, learning_rate=0.1, seeds=20, activation="binary"
    )
    result = run(grid, max_steps=2000)
    by_lam = result.to_xarray().status.squeeze()
    assert (by_lam.sel(lam=0) == rv.Status.CONVERGED).all()
    assert (by_lam.sel(lam=1e-3) == rv.Status.CAP).all()
    assert np.isfinite(result.data["theta_w"]).all()


def test_any_penalty_runs_in_a_sweep():
    grid = rv.Grid(penalty=[rv.Grouped(rv.L1(), axes=(0,)), rv.TopK(k=3), rv.TopK(k=5)], d=8, seeds=6)
    result = run(grid)
    assert result.counts["converged"] == grid.size
    zeros = result.data["zeros"][:, 0, 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(zeros, [[0] * 6, [5] * 6, [3] * 6])


def test_progress_counts_to_the_end():
    seen = []
    grid = rv.Grid(penalty=["l1", "l0"], d=[4, 5], seeds=300)
    run(grid, progress=lambda done, lanes: seen.append((done, lanes)))
    assert seen[-1] == (grid.size, grid.size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_finished_lanes_are_refilled():
    """Lanes take 57 to 5,000 steps and finish out of order."""
    grid = rv.Grid(penalty="l1", d=5, k=[1, 10, 100], lam=[1e-5, 1e-3], seeds=500)
    result = run(grid)
    assert result.counts["converged"] == grid.size
    assert result.data["steps"].max() > 40 * result.data["steps"].min()
    assert 1 <= result.steps_executed / result.steps_needed < 1.15


def test_slow_cells_come_first():
    """Many patches, then a small learning rate (by a large β), then a large λ."""
    grid = rv.Grid(k=[2, 100], lam=[1e-5, 1e-3], beta=[0.1, 4e-3])
    cells = [(k, lam, beta) for k in (2, 100) for lam in (1e-5, 1e-3) for beta in (0.1, 4e-3)]
    assert [cells[i] for i in arguments.cell_order(grid)] == sorted(cells, key=lambda c: (-c[0], -c[2], -c[1]))
    given = rv.Grid(k=[3, 1], learning_rate=[0.2, 0.1])
    assert arguments.cell_order(given).tolist() == [1, 0, 3, 2]


def test_the_step_cap_is_reported():
    result = run(rv.Grid(penalty="l1", d=5, k=50, seeds=3), max_steps=loop.CHECK_EVERY + 4)
    assert result.counts == {"converged": 0, "cap": 3, "diverged": 0}
    assert (result.data["steps"] == 2 * loop.CHECK_EVERY).all()


def test_dataset_carries_labels_and_the_rate_in_use():
    grid = rv.Grid(penalty=["l1", "tl1"], a=[0.5, 2.0], d=[4, 5], beta=[4e-3, 1e-2], seeds=[3, 8])
    result = run(grid)
    data = result.to_xarray()
    assert dict(data.sizes) == grid.shape
    assert list(data.penalty.values) == ["l1", "tl1(a=0.5)", "tl1(a=2)"]
    np.testing.assert_array_equal(data.a, [np.nan, 0.5, 2.0])
    np.testing.assert_array_equal(data.seed, [3, 8])
    np.testing.assert_allclose(data.eta[:, 0], [1 / 4.004, 1 / 4.01], rtol=1e-6)
    assert float(data.theta_w.sel(penalty="l1", d=5, beta=1e-2, seed=8).squeeze()) > 0
    assert data.drop_vars(result.data).identical(labels(grid, result.tol))
    given = labels(rv.Grid(penalty="l1", d=4, learning_rate=[0.1, 0.2], seeds=1), 1e-6)
    np.testing.assert_array_equal(given.eta, [[0.1, 0.2]])


def test_the_summary_has_means_over_the_seeds_and_their_errors():
    grid = rv.Grid(penalty=["l1", "tl1"], d=4, lam=[1e-4, 1e-3, 1e-2], seeds=4)
    result = run(grid)
    table = result.summary("theta_w", "steps")
    assert list(table.columns) == ["theta_w", "theta_w ±", "steps", "steps ±"]
    assert table.index.names == ["penalty", "lam"]
    for (i, penalty), (j, lam) in itertools.product(enumerate(["l1", "tl1"]), enumerate(grid.values.lam)):
        for name in ("theta_w", "steps"):
            values = result.data[name][i, 0, 0, j].ravel().astype(float)
            want = [statistics.fmean(values), statistics.stdev(values) / 2]
            np.testing.assert_allclose(table.loc[(penalty, lam), [name, f"{name} ±"]], want, rtol=1e-6)
    assert set(result.summary().columns[::2]) == set(result.data) - {"status"}


def test_diverged_lanes_do_not_count_in_the_summary():
    one = run(rv.Grid(penalty="l1", d=4, seeds=3))
    data = {name: array.copy() for name, array in one.data.items()}
    data["status"].flat[1] = rv.Status.DIVERGED
    data["theta_w"].flat[1], data["steps"].flat[1] = np.nan, 10**6
    table = dataclasses.replace(one, data=data).summary("steps", "theta_w")
    assert len(table) == 1
    for name in ("steps", "theta_w"):
        kept = one.data[name].ravel().astype(float)[[0, 2]]
        want = [kept.mean(), abs(kept[0] - kept[1]) / 2]
        np.testing.assert_allclose(table[[name, f"{name} ±"]].iloc[0], want, rtol=1e-6, atol=1e-12)
    assert run(rv.Grid(penalty="l1", d=4, seeds=1)).summary("theta_w")["theta_w ±"].isna().all()
    with pytest.raises(ValueError, match=r"names must be among theta_w, .*, got 'loss'"):
        one.summary("loss")
    with pytest.raises(ValueError, match="got 'status'"):
        one.summary("status")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tol": 0}, "tol"),
        ({"tol": np.nan}, "tol"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_steps": 2**31}, "max_steps"),
        ({"tol": 1e-50}, "tol must be a normal number in float32"),
        ({"dtype": np.float16}, "dtype"),
        ({"dtype": np.float64}, "jax_enable_x64"),
    ],
)
def test_bad_options_are_named_on_one_line(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        run(rv.Grid(seeds=1), **options)
    assert "\n" not in str(caught.value)


def test_a_value_that_underflows_is_rejected():
    with pytest.raises(ValueError, match="beta must be a normal number in float32, got 1e-50"):
        run(rv.Grid(beta=1e-50, seeds=1))


def test_a_grid_larger_than_memory_is_rejected_with_the_size_that_fits():
    with pytest.raises(ValueError, match=r"60,000,000,000 lanes need .* GB .* at most [\d,]+ seeds fit"):
        run(rv.Grid(k=[1, 2, 3, 4], seeds=10**9))


@pytest.mark.slow
@pytest.mark.optimized
def test_the_memory_estimate_matches_the_program():
    """Outputs and temporaries on each device; the assembled result adds to them."""
    grid = rv.Grid(penalty="l1", d=[20, 100], k=[2, 5], seeds=20_000)
    devices = tuple(jax.devices("cpu")[:2])
    made = plan.make_plan(grid, plan.precision(None), devices, progress=False)
    known = program.compile_plan(made, jax.random.key_impl(jax.random.key(0))).memory_analysis()
    held = len(devices) * (known.temp_size_in_bytes + known.output_size_in_bytes)
    assert held <= 20_000 * arguments.seed_bytes(made) <= 1.3 * held


def test_run_sweep_requires_a_grid():
    with pytest.raises(TypeError, match="grid must be a Grid"):
        rv.run_sweep("grid")


def test_a_problem_by_class_equals_the_problem_by_name():
    by_name, by_class = (run(rv.Grid(penalty="l1", d=5, seeds=4, activation=a)) for a in ("binary", rv.NoOverlapBinary))
    one, other = ({name: array.tobytes() for name, array in x.data.items()} for x in (by_name, by_class))
    assert one == other
    assert by_class.to_xarray().attrs["activation"] == "binary"


class Steep(rv.NoOverlapReLU):
    """ReLU problem with twice the loss: its limits equal those of half the λ and half the β."""

    def coefficients(self, *geometry):
        return tuple(2 * x for x in super().coefficients(*geometry))

    def largest_learning_rate(self, beta):
        return super().largest_learning_rate(beta / 2) / 2


@pytest.mark.parametrize("problem", [Steep, Steep(k=7)])
def test_a_user_problem_runs_in_a_sweep(problem):
    lanes = {"penalty": "l1", "d": 6, "k": [2, 3], "seeds": 5}
    result = run(rv.Grid(**lanes, lam=2e-3, beta=0.2, activation=problem), tol=1e-6)
    want = run(rv.Grid(**lanes, lam=1e-3, beta=0.1), tol=1e-6)
    assert result.counts["converged"] == 10
    for name in ("theta_w", "theta_u", "gamma", "dist_w"):
        np.testing.assert_allclose(result.data[name], want.data[name], rtol=2e-3, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(result.data["zeros"], want.data["zeros"])
    assert result.to_xarray().attrs["activation"] == "Steep"
