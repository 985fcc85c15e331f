"""The study of the binary activation: runs against NumPy, a small record."""

import contextlib
import io
import json
import types

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import rvsmjax as rv
from experiments.cli import main as cli
from experiments.papers import frontiers_2020 as paper_rvscgd
from experiments.studies.binary import simulate as binary_data


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A record of ``binary --quick`` and what the terminal showed."""
    folder = tmp_path_factory.mktemp("binary") / "record"
    shown, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(shown), contextlib.redirect_stderr(errors):
        patch.setattr(cli, "prepare_jax", lambda precision: None)  # do not change global flags
        code = cli.main(["binary", "--quick", "--penalty", "l1", "l0", "--out", str(folder)])
    return types.SimpleNamespace(folder=folder, code=code, shown=shown.getvalue(), errors=errors.getvalue())


@pytest.mark.robustness
def test_record_is_whole(quick, count_colors, report_files):
    assert (quick.code, quick.errors) == (0, "")
    names = {path.name for path in quick.folder.iterdir()}
    drawn = {
        f"{name}.{kind}" for name in ("figure_4", "tradeoff", "distributions", "against_k") for kind in ("png", "svg")
    }
    assert names == drawn | {*report_files, "summary.csv", "data.zarr", "figure_4.csv"}
    assert all(count_colors(quick.folder / name)[1] > 100 for name in drawn if name.endswith("png"))
    config = json.loads((quick.folder / "config.json").read_text())
    assert config["config"]["precision"] == "float64"
    assert config["status"] == {"converged": 200, "step cap": 0, "diverged": 0}
    assert {"set-up", "compilation", "run", "figure 4", "report"} == set(config["seconds"])
    rates = np.array(config["learning_rate_used"])[:, 0, 0]
    np.testing.assert_allclose(rates, 2 * np.sqrt(2 * np.pi) / np.array([1, 20]), rtol=1e-12)


@pytest.mark.robustness
def test_every_lane_satisfies_the_equilibrium(quick):
    lanes = xr.open_zarr(quick.folder / "data.zarr").load()
    assert lanes.theta_w.dtype == np.float64
    assert float(lanes.residual.max()) < 1e-11
    hard = lanes.sel(penalty="l0")
    pull = hard.k / (2 * np.pi) * np.sin(hard.theta_w)
    assert float(abs(pull - hard.beta * np.cos(hard.gamma) * np.sin(hard.gamma)).max()) < 1e-11


@pytest.mark.robustness
def test_report_and_terminal_show_the_numbers(quick):
    report = (quick.folder / "report.md").read_text()
    summary = pd.read_csv(quick.folder / "summary.csv").set_index(["penalty", "k", "metric"])
    for index in [("l0", 20, "theta_u"), ("l1", 1, "theta_w")]:
        row = summary.loc[index]
        assert f"{row['mean']:.3e} ± {row['sem']:.1e}" in report
    for text in (
        "Figure 4 of the paper",
        "Do the Lagrangian and the angle decrease?",
        "Limits over the number of patches",
        "Equilibrium and bound (13)",
    ):
        assert text in report
        assert text in quick.shown
    assert "](figure_4.png)" in report
    assert "2√(2π)/k" in report
    assert "0 of 3 came under a residual of 1e-10" in report
    assert "paper" not in report.split("## Figures")[1]  # A's tables are of another network


def test_runs_of_figure_4_match_a_loop(x64):
    runs = binary_data.descents(5, 2, 64)
    assert dict(runs.sizes) == {"run": 2, "step": 65}
    assert runs.theta.dtype == np.float64
    setting = paper_rvscgd.SETTING
    k, d, lam, beta, eta = *(setting[name] for name in ("k", "d", "lam", "beta")), paper_rvscgd.LEARNING_RATE
    w, w_star = np.asarray(jax.random.normal(jax.random.fold_in(jax.random.key(5), 1), (2, d)))
    w, w_star = w / np.linalg.norm(w), w_star / np.linalg.norm(w_star)
    for t in range(65):
        u = np.where(np.abs(w) > np.sqrt(2 * lam / beta), w, 0)
        theta = np.arccos(w @ w_star)
        envelope = lam * np.count_nonzero(u) + beta / 2 * ((w - u) ** 2).sum()
        want = [theta, k * theta / (2 * np.pi) + envelope, np.arccos(np.linalg.norm(u))]
        row = runs.isel(run=1).sel(step=t)
        np.testing.assert_allclose([row.theta, row.lagrangian, row.gamma], want, rtol=1e-9)
        w = w - eta * (k / (2 * np.pi) * (w - w_star) + beta * (w - u))
        w = w / np.linalg.norm(w)


def test_a_converged_run_keeps_its_last_values(x64):
    runs = binary_data.follow(0, 12, rv.L0(), binary_data.safe_rate(), 300, 1)
    assert runs.converged.all()
    assert int(runs.steps.max()) < 300
    assert np.isfinite(runs.lagrangian).all()
    assert float(runs.residual.isel(step=-1).max()) < 1e-10
    rise = binary_data.rises(runs.lagrangian)
    assert (rise >= 0).all()
    assert 0 < (rise > 1e-9).sum() < 12  # not monotone, contrary to the paper
    # Steps of at most ½: condition (iii) of Theorem 1, with ‖E[g]‖ <= c and β‖w − u‖ <= β.
    assert binary_data.safe_rate() * (20 / np.pi + 4e-3) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--figure-runs 0", ["--figure-runs", ">= 1", "0"]),
        ("--figure-steps 0", ["--figure-steps", ">= 1", "0"]),
        ("--k 0", ["--k", "0"]),
        ("--penalty l2", ["--penalty", "l0", "l2"]),
        ("--tol -1", ["--tol", "-1"]),
    ],
)
def test_bad_input_is_refused_in_one_line(flags, words, refused):
    error = refused("binary", flags)
    assert all(word in error for word in words), error


def test_quick_changes_only_sizes():
    small, full = cli.parse(["binary", "--quick"]), cli.parse(["binary"])
    changed = {name for name in full.__dataclass_fields__ if getattr(small, name) != getattr(full, name)}
    assert changed == {"d", "k", "seeds", "figure_runs", "figure_steps", "quick"}
