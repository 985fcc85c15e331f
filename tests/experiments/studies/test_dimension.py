"""The study over d: probabilities on the sphere, its table against direct counts, a small record."""

import contextlib
import io
import json
import types

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import integrate

import rvsmjax as rv
from experiments.cli import main as cli
from experiments.studies.dimension import report as dimension_report
from experiments.studies.dimension import simulate, sphere


@pytest.mark.parametrize("t", [0.3, 0.7072, 0.75, 0.9, 0.999, 1.0])
def test_probability_in_the_plane(t):
    want = max(0, 1 - 4 * np.arccos(min(t, 1)) / np.pi)  # max(|cos a|, |sin a|) <= t
    assert sphere.all_below(2, t) == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("t", [0.58, 0.62, 0.69, 0.8])
def test_probability_in_space(t):
    """A component is uniform in [−1, 1], and the other two are uniform on the circle that it leaves."""

    def rest(z):
        bound = t / np.sqrt(1 - z**2)
        return max(0, 1 - 4 * np.arccos(min(bound, 1)) / np.pi)

    edge = np.sqrt(max(1 - 2 * t**2, 0))
    want = integrate.quad(rest, edge, min(t, np.sqrt(1 - t**2)))[0]
    want += max(0, t - np.sqrt(1 - t**2))
    assert sphere.all_below(3, t) == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize(("d", "t"), [(10, 0.5), (50, 0.3), (150, 0.2236), (400, 0.15)])
def test_probability_matches_sampling(d, t):
    g = np.random.default_rng(d).normal(size=(20_000, d))
    share = np.mean(np.abs(g).max(1) <= t * np.linalg.norm(g, axis=1))
    assert 0.01 < share < 0.99
    assert sphere.all_below(d, t) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(g)))
    one = np.mean(np.abs(g) <= t * np.linalg.norm(g, axis=1, keepdims=True))
    assert sphere.one_below(d, t) == pytest.approx(one, abs=1e-3)


def test_ends_of_the_probability():
    assert [sphere.all_below(1, t) for t in (0, 0.5, 0.999, 1, 2)] == [0, 0, 0, 1, 1]
    assert [sphere.one_below(1, t) for t in (0.5, 1)] == [0, 1]
    assert sphere.all_below(400, 0.05) == 0  # t = 1/√d
    assert sphere.all_below(10**6, 0.05) == 1


@pytest.mark.parametrize("d", [10, 100, 1000])
def test_probability_increases_with_t(d):
    p = np.array([sphere.all_below(d, t) for t in np.linspace(1 / np.sqrt(d), 1, 101)])
    assert (np.diff(p) > -1e-9).all()
    assert (round(p[0], 9), p[-1]) == (0, 1)


def test_sum_joins_the_closed_form():
    below, above = (sphere.all_below(10, np.sqrt(square)) for square in (0.5 - 1e-9, 0.5 + 1e-9))
    assert below == pytest.approx(above, abs=1e-7)


@pytest.mark.parametrize("t", [0.9, 0.5, 0.2236, 0.05])
def test_half_dimension(t):
    d = sphere.half_dimension(t)
    assert sphere.all_below(d - 1, t) < 0.5 <= sphere.all_below(d, t)


def test_no_dimension_is_large_enough():
    assert sphere.half_dimension(0) is None
    assert sphere.half_dimension(1) == 1


@pytest.fixture(scope="module")
def tiny():
    """A grid in which both kinds of limits are frequent, its sweep and its reference."""
    grid = rv.Grid(penalty=("l1", "l0"), d=(4, 6), k=2, lam=2.4e-3, beta=4e-3, seeds=60)
    return grid, simulate.limits(grid, 3, 1e-10, 10_000), simulate.thresholds(grid)


def test_table_counts_the_lanes(tiny):
    grid, (result, reference), t = tiny
    assert t == pytest.approx([0.6, np.sqrt(1.2)])
    table = simulate.tabulate(grid, result, reference, t).set_index(["penalty", "d"])
    assert list(table.index) == [("l1", 4), ("l1", 6), ("l0", 4), ("l0", 6)]
    zeros, theta = (result.data[name].reshape(2, 2, 60) for name in ("zeros", "theta_w"))
    weak = reference.data["zeros"].reshape(2, 2, 60)
    for j, d in enumerate((4, 6)):
        row = table.loc["l1", d]
        count = sum(z == d for z in zeros[0, j])
        assert row.all_zero == count
        assert row.empty_sem == pytest.approx(np.sqrt(count / 60 * (1 - count / 60) / 60))
        assert row.zeros_share == pytest.approx(zeros[0, j].mean() / d)
        assert row.theta_w == pytest.approx(theta[0, j].mean())
        assert row.full_below == np.sum((weak[0, j] == d) & (zeros[0, j] < d))
        assert row.empty_above == 0
        assert (row.converged, row.cap, row.diverged, row.lanes) == (60, 0, 0, 60)
    assert 0 < table.loc["l1", 6].all_zero < 60
    assert (table.loc["l0"].all_zero == 60).all()
    assert table.theta_w_empty_max.max() < 1e-9
    assert table.loc["l0"].theta_u.to_list() == pytest.approx([np.pi / 2] * 2)
    assert table.loc["l0"].theta_u_full.isna().all()


def test_reference_thresholds_the_lanes_own_w_star(tiny, x64):
    """Against w* drawn as the sweep draws it, with d padded to a multiple of 64."""
    _, (_, reference), _ = tiny
    zeros = reference.data["zeros"].reshape(2, 2, 60)
    for seed in range(8):
        draws = jax.random.normal(jax.random.fold_in(jax.random.key(3), seed), (2, 64))
        w_star = np.asarray(draws)[0, :6]
        small = np.abs(w_star) <= 0.6 * np.linalg.norm(w_star)
        assert zeros[0, 1, seed] == small.sum()


def test_lanes_that_did_not_converge_are_counted(tiny):
    grid, _, t = tiny
    result, reference = simulate.limits(grid, 3, 1e-10, 16)
    table = simulate.tabulate(grid, result, reference, t)
    assert (table.cap == 60).all()
    assert (table.reference_not_converged == 60).all()
    result.data["status"][0, 0, ..., :5] = rv.Status.DIVERGED
    result.data["theta_w"][0, 0, ..., :5] = np.nan
    result.data["zeros"][0, 0, ..., :5] = reference.data["zeros"][0, 0, ..., :5] = 4
    reference.data["status"][0, 0, ..., :5] = rv.Status.DIVERGED
    table = simulate.tabulate(grid, result, reference, t)
    assert (table.diverged[0], table.lanes[0]) == (5, 60)
    own = (data.reshape(2, 2, 60)[0, 0, 5:] for data in (result.data["zeros"], reference.data["zeros"]))
    assert [table.all_zero[0], table.below[0]] == [np.sum(zeros == 4) for zeros in own]
    assert np.isfinite(table.theta_w).all()


def test_verdict_states_the_counts(tiny):
    grid, results, t = tiny
    table = simulate.tabulate(grid, *results, t)
    config = types.SimpleNamespace(k=2, lam=2.4e-3, beta=4e-3)
    text = dimension_report.verdict(table, config)
    assert f"ū = 0 in {table.all_zero.sum()} of 240 lanes; 0 of them have" in text
    assert "ℓ0 has ū = 0 in 100 % of the lanes and 100.0 % zeros at d = 6" in text


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A record of ``dimension --quick`` and what the terminal showed."""
    folder = tmp_path_factory.mktemp("dimension") / "record"
    shown, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(shown), contextlib.redirect_stderr(errors):
        patch.setattr(cli, "prepare_jax", lambda precision: None)  # do not change global flags
        code = cli.main(["dimension", "--quick", "--out", str(folder)])
    return types.SimpleNamespace(folder=folder, code=code, shown=shown.getvalue(), errors=errors.getvalue())


@pytest.mark.robustness
def test_record_is_whole(quick, count_colors, report_files):
    assert (quick.code, quick.errors) == (0, "")
    names = {*report_files, "dimension.csv", "dimension.png", "dimension.svg"}
    assert {path.name for path in quick.folder.iterdir()} == names
    assert count_colors(quick.folder / "dimension.png")[1] > 100
    config = json.loads((quick.folder / "config.json").read_text())
    assert config["status"] == config["status_reference"] == {"converged": 300, "cap": 0, "diverged": 0}
    table = pd.read_csv(quick.folder / "dimension.csv").set_index(["penalty", "d"])
    assert len(table) == 6
    row = table.loc["l0", 150]
    assert 0 < row.empty_share < 1
    assert abs(row.empty_share - row.p_below) < 4 * row.empty_sem + 0.03
    assert (table.empty_above == 0).all()
    for text in ("Zeros and angles", "Verdict", f"{100 * row.p_below:.4g}"):
        assert text in quick.shown
    assert "](dimension.png)" in (quick.folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--d 0", ["--d", "0"]),
        ("--d 10 10", ["--d", "distinct"]),
        ("--k 0", ["--k", "0"]),
        ("--beta 0", ["--beta", "0"]),
        ("--lam -1", ["--lam", "-1"]),
        ("--seeds 0", ["--seeds", "0"]),
        ("--penalty l2", ["--penalty", "l0", "l2"]),
        ("--penalty rvsmjax:TopK", ["--penalty", "rvsmjax:TopK"]),
        ("--tol -1", ["--tol", "-1"]),
        ("--max-steps 0", ["--max-steps", "0"]),
    ],
)
def test_bad_input_is_one_line(flags, words, refused):
    error = refused("dimension", flags)
    assert all(word in error for word in words), error


def test_quick_changes_only_sizes():
    small, full = cli.parse(["dimension", "--quick"]), cli.parse(["dimension"])
    changed = {name for name in full.__dataclass_fields__ if getattr(small, name) != getattr(full, name)}
    assert changed == {"d", "seeds", "quick"}
