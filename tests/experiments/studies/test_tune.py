"""Tuning: the constraint, its slope, the least angle, the record, the answer."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import rvsmjax as rv
from experiments.cli import main as cli
from experiments.studies.tune import optimizers as tuners
from experiments.studies.tune import problem as tuning
from experiments.studies.tune import summary as tune_summary


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("tune") / "record"
    assert cli.main(["tune", "--quick", "--quiet", "--out", str(out)]) == 0
    return out


@pytest.mark.robustness
def test_record_is_whole(folder, count_colors, report_files):
    names = {path.name for path in folder.iterdir()}
    drawn = {f"{name}.{kind}" for name in ("angles", "paths") for kind in ("png", "svg")}
    assert names == drawn | {*report_files, "summary.csv", "paths.csv", "data.zarr"}
    assert json.loads((folder / "config.json").read_text())["config"]["iterations"] == 18
    assert count_colors(folder / "angles.png")[1] > 100
    assert "Is a tuned Tℓ1 better than both" in (folder / "report.md").read_text()


def test_quick_changes_only_sizes():
    quick, full = cli.parse(["tune", "--quick"]), cli.parse(["tune"])
    changed = {name for name in full.__dataclass_fields__ if getattr(quick, name) != getattr(full, name)}
    assert changed == {"d", "sparsity", "truth_zeros", "seeds", "held_out", "iterations", "quick"}


@pytest.mark.robustness
def test_every_tuner_meets_the_required_share_at_equal_cost(folder):
    table = pd.read_csv(folder / "summary.csv")
    assert (abs(table.train_share - 0.5) <= 1 / 100).all()
    solves = table.set_index(["penalty", "tuner"]).solves.unstack()
    assert (solves.gradient == 18 + tuning.CALIBRATION).all()
    assert (solves.grid <= solves.gradient).all()
    assert (solves.grid > solves.gradient - tuning.CALIBRATION).all()
    for row in table.itertuples():
        penalty = {"l1": rv.L1(), "l0": rv.L0(), "tl1": rv.TransformedL1(row.a)}[row.penalty]
        assert float(penalty.threshold(row.lam / row.beta)) == pytest.approx(row.t, rel=1e-5)


@pytest.mark.robustness
def test_the_descent_goes_down_and_the_answer_stands(folder):
    paths = pd.read_csv(folder / "paths.csv").set_index("penalty")
    assert paths.theta["tl1"].iloc[-1] < 0.9 * paths.theta["tl1"].iloc[0]
    assert np.abs(paths.slope_beta["l0"]).max() < 1e-6  # no slope at a fixed support
    results = xr.open_zarr(folder / "data.zarr").load()
    best = tune_summary.tuned(results)
    excess = (best.theta - best.best).squeeze()
    assert (excess > -1e-5).all()
    assert np.abs(excess.sel(penalty="l0")).max() < 1e-4
    mean = excess.mean("seed")
    assert mean.sel(penalty="tl1") < 0.1 * mean.sel(penalty="l1")


def test_differences_of_synthetic_angles():
    shape = {"penalty": ["l1", "l0", "tl1"], "tuner": ["start", "gradient", "grid"], "d": [10], "truth_zeros": [0.0]}
    shape |= {"sparsity": [0.5]}
    sizes, seeds = [len(values) for values in shape.values()], 50
    level = np.array([0.5, 0.2, 0.3])[:, None, None, None, None, None] * np.ones((*sizes, seeds))
    level = level + np.array([0, 0.01, 0.02])[:, None, None, None, None] + np.linspace(-1, 1, seeds)
    train = np.arange(9.0).reshape(sizes) % 2  # the better of the two is not always the same
    dims = [*shape, "seed"]
    results = xr.Dataset(
        {
            "theta": (dims, level),
            "best": (dims, 0.1 * level),
            "zeros": (dims, 10 * level),
            "train_theta": (list(shape), train),
        },
        shape,
    )
    gaps = tune_summary.differences(results).set_index(["other", "quantity"])
    # By hand: train picks the grid for l1 and tl1, and the gradient for l0.
    assert gaps["mean"]["l1", "theta"] == pytest.approx(-0.2)
    assert gaps["mean"]["l0", "theta"] == pytest.approx(0.3 + 0.02 - 0.2 - 0.01)
    assert gaps["mean"]["l0", "excess"] == pytest.approx(0.9 * 0.11)
    assert gaps["mean"]["l0", "share"] == pytest.approx(0.11)
    assert gaps.half["l0", "theta"] == pytest.approx(0, abs=1e-12)


def test_step_gives_the_threshold():
    for kind, a in itertools.product(("l1", "l0", "tl1"), (0.01, 0.3, 1.0, 50.0)):
        penalty = {"l1": rv.L1(), "l0": rv.L0(), "tl1": rv.TransformedL1(a)}[kind]
        t = np.array([1e-3, 0.1, 0.15, 0.4, 2.0], "f4")
        step = tuning.step_at(kind, jnp.asarray(t), jnp.asarray(a, "f4"))
        np.testing.assert_allclose(jax.vmap(penalty.threshold)(step), t, rtol=2e-5)


def test_least_angle_is_the_minimum_over_supports_and_vectors():
    rng = np.random.default_rng(0)
    w_star = rng.normal(size=5)
    for count in range(6):
        angles = [np.pi / 2]
        for support in itertools.combinations(range(5), count):
            on = np.isin(np.arange(5), support)
            for u in (on * w_star, *(on * rng.normal(size=(20, 5)))):
                if u.any():
                    angles.append(np.arccos(np.clip(u @ w_star / np.linalg.norm(u) / np.linalg.norm(w_star), -1, 1)))
        assert tuning.best_angle(w_star[None], np.array([count])) == pytest.approx(min(angles), abs=1e-7)


def test_a_seed_does_not_depend_on_the_other_seeds():
    key = jax.random.key(1)
    many, one = tuning.draw(key, range(7), 10, 0.4), tuning.draw(key, range(3, 4), 10, 0.4)
    np.testing.assert_array_equal(many.w_star[3], one.w_star[0])
    np.testing.assert_array_equal(many.w0[3], one.w0[0])
    assert ((np.asarray(many.w_star) == 0).sum(1) == 4).all()
    np.testing.assert_allclose(np.linalg.norm(many.w_star, axis=1), 1, rtol=1e-6)
    assert len({tuple(np.flatnonzero(row)) for row in np.asarray(many.w_star)}) > 1


@pytest.mark.slow
def test_slope_along_the_constraint_is_a_central_difference(x64):
    """Transformed l1 with a continuous prox; the share is fixed by iterating the quantile."""
    draws, sparsity, x, step = tuning.draw(jax.random.key(0), range(20), 5, 0.0), 0.47, np.log([0.3, 2.0]), 1e-3
    cell = tuning.Cell("tl1", 2, sparsity, draws)

    def solved(x):
        t = cell.first_threshold()[0]
        for _ in range(60):  # t = q(t), with the interpolated quantile of the program
            w = np.abs(np.asarray(cell.limits(*np.exp(x), t)[2]))
            t = np.quantile(w, sparsity)
        return float(jnp.mean(cell.limits(*np.exp(x), t)[0])), t

    _, t = solved(x)
    slopes, _ = tuners._slopes("tl1", cell.max_steps, 2, jnp.asarray(x), jnp.asarray(t), sparsity, draws)
    moves = step * np.eye(2)
    expected = [(solved(x + move)[0] - solved(x - move)[0]) / (2 * step) for move in moves]
    np.testing.assert_allclose(slopes, expected, rtol=1e-3)


BAD = [
    ("--penalty foo", ["--penalty", "foo"]),
    ("--penalty l1 l1", ["--penalty", "distinct"]),
    ("--d 1", ["--d", "1"]),
    ("--k 0", ["--k", "0"]),
    ("--sparsity 1", ["--sparsity", "(0, 1)", "1"]),
    ("--sparsity nan", ["--sparsity", "nan"]),
    ("--truth-zeros 0.6", ["--truth-zeros", "0.6"]),
    ("--seeds 1", ["--seeds", "1"]),
    ("--held-out 0", ["--held-out", "0"]),
    ("--held-out 9999999999", ["--held-out", "9999999999"]),
    ("--iterations 0", ["--iterations", "0"]),
]


@pytest.mark.parametrize(("flags", "words"), BAD)
def test_bad_input_is_refused_in_one_line(flags, words, refused):
    error = refused("tune", f"--quick {flags}")
    assert all(word in error for word in words), error
