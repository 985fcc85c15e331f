"""Support recovery: the draw, lanes against a plain loop, the counts of errors, the record."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import rvsmjax as rv
from experiments.cli import main as cli
from experiments.studies.recovery import problem as recovery_problem
from experiments.studies.recovery import report as recovery_report
from experiments.studies.recovery.config import RecoveryConfig
from experiments.studies.recovery.run import run_lanes

SMALL = {"penalty": ("l1",), "d": (8,), "share": (0.25,), "beta": 0.01, "seeds": 6}
"""Settings of the runs that the tests share; all runs of one activation have the same shapes, so compile once."""


def draws(seeds, share=0.3, d=10, activation="relu"):
    lane = types.SimpleNamespace(d=d, share=share, k=2, ratio=0.1, activation=activation, penalty=rv.L1())
    # As ``run_sweep`` makes the key of a lane.
    keys = [jax.random.split(jax.random.fold_in(jax.random.key(0), seed))[0] for seed in range(seeds)]
    return [recovery_problem.PROBLEM.draw(key, lane) for key in keys]


def test_w_star_is_sparse_and_of_norm_1(x64):
    pairs = draws(20)
    w0, w_star = (np.asarray(x) for x in (jnp.stack([p[0] for p in pairs]), jnp.stack([p[1].w_star for p in pairs])))
    assert np.allclose(np.linalg.norm(w0, axis=1), 1)
    assert np.allclose(np.linalg.norm(w_star, axis=1), 1)
    assert ((w_star != 0).sum(1) == 3).all()
    assert len({tuple(row) for row in w_star != 0}) > 10
    assert (w0 != 0).all()
    # Every component is in a support: the places are drawn, too.
    assert (w_star != 0).any(0).all()


def test_errors_of_a_support():
    w_star = jnp.array([0.5, -0.5, 0.1, 0.0, 0.0, 0.0])
    errors = recovery_problem.support_errors(jnp.array([0.4, 0.0, -0.1, 0.2, 1e-12, 0.0]), w_star)
    assert (int(errors["false_zeros"]), int(errors["false_nonzeros"])) == (1, 2)


def gradient(activation, w, w_star, k):
    """A Lemma 5.4.2 as printed, or F eq. 15 with c = k/π, at ‖w‖ = ‖w*‖ = 1."""
    if activation == "binary":
        return k / (2 * np.pi) * (w - w_star)
    theta = np.arccos(np.clip(w @ w_star, -1, 1))
    return (w * (1 - np.sin(theta) / np.pi) - (np.pi - theta) / np.pi * w_star) / k


@pytest.mark.parametrize("activation", ["relu", "binary"])
def test_lanes_match_a_plain_loop(activation, x64):
    ratios, beta, k = (1e-3, 0.1, 0.3), 0.01, 3
    lanes = run_lanes(RecoveryConfig(**SMALL, activation=(activation,), k=(k,), ratio=ratios))
    assert (lanes.status == 0).all()
    pairs = draws(6, 0.25, 8, activation)
    rate = 1 / (beta + 4) if activation == "relu" else min(1 / (beta + k / (2 * np.pi)), 2 * np.sqrt(2 * np.pi) / k)
    for lane in lanes.itertuples():
        w, w_star = np.asarray(pairs[lane.seed][0]), np.asarray(pairs[lane.seed][1].w_star)
        assert lane.s == (w_star != 0).sum() == 2
        for _ in range(lane.steps):
            u = np.sign(w) * np.maximum(np.abs(w) - lane.ratio, 0)
            w = w - rate * (gradient(activation, w, w_star, k) + beta * (w - u))
            w /= np.linalg.norm(w)
        u = np.sign(w) * np.maximum(np.abs(w) - lane.ratio, 0)
        cosine = w_star @ u / np.linalg.norm(u) if u.any() else 0
        assert np.cos(lane.theta_u) == pytest.approx(cosine, abs=1e-8)
        assert np.cos(lane.theta_w) == pytest.approx(w_star @ w, abs=1e-8)
        assert lane.exact == np.array_equal(u != 0, w_star != 0)
        assert lane.false_zeros == ((u == 0) & (w_star != 0)).sum()
        assert lane.false_nonzeros == ((u != 0) & (w_star == 0)).sum()
        assert lane.zeros == (u == 0).sum()
        smallest = np.abs(w_star[w_star != 0]).min()
        assert lane.smallest == pytest.approx(smallest)
        assert lane.direct == (smallest > lane.ratio)


def test_thresholds_too_small_right_and_too_large():
    """Off the support w̄ is as small as the tolerance: a smaller threshold keeps all components."""
    config = RecoveryConfig(**SMALL, activation=("relu",), k=(3,), ratio=(1e-12, 1e-4, 2.0), tol=1e-6)
    lanes = dict(iter(run_lanes(config).groupby("ratio")))
    assert (lanes[1e-12].false_nonzeros == 6).all()
    assert (lanes[1e-12].zeros == 0).all()
    assert lanes[1e-4].exact.all()
    assert (lanes[2.0].false_zeros == 2).all()
    assert np.allclose(lanes[2.0].theta_u, np.pi / 2)


def made_up(converged, exact):
    axes = {"activation": "relu", "penalty": "l1", "k": 2, "d": 8, "s": 2, "share": 0.25, "ratio": 0.1}
    status = np.where(np.arange(20) < converged, 0, 1)
    hit = np.arange(20) < exact
    measured = {"exact": hit, "direct": hit, "false_zeros": 1 - hit, "false_nonzeros": 0, "theta_u": 0.5, "zeros": 6}
    return pd.DataFrame(axes | measured | {"status": status, "smallest": 0.2, "seed": range(20)})


def test_cells_count_what_did_not_converge():
    cells = recovery_report.summarize(made_up(16, 12))
    row = cells.iloc[0]
    assert (row.lanes, row.converged, row.cap, row.diverged) == (20, 16, 4, 0)
    assert row.exact == 12 / 16
    assert row.false_zeros_se == pytest.approx(np.std([0] * 12 + [1] * 4, ddof=1) / 4)
    assert (row.exact_low, row.exact_high) == pytest.approx((0.5050, 0.8982), abs=1e-4)
    assert "4 of 20 lanes reached the step cap" in recovery_report._unfinished(cells)
    assert 0 < recovery_report.summarize(made_up(20, 20)).exact_se[0] < 0.05
    none = recovery_report.summarize(made_up(0, 0)).iloc[0]
    assert (none.converged, none.cap) == (0, 20)
    assert np.isnan([none.exact, none.exact_se]).all()


@pytest.mark.parametrize(
    ("shares", "shown"), [((1, 1, 0), "0.032"), ((0, 0.4, 0), "< 0.001"), ((0, 1, 0.5), "≥ 0.1"), ((1, 0, 0), "0.0032")]
)
def test_where_half_is_lost(shares, shown):
    assert recovery_report.half((1e-3, 1e-2, 0.1), shares) == shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("recovery") / "record"
    assert cli.main(["recovery", "--quick", "--quiet", "--out", str(out)]) == 0
    return out


@pytest.mark.robustness
def test_record_is_whole(folder, count_colors, report_files):
    names = {*report_files, "cells.csv", "lanes.csv.gz", "recovery_d10.png", "recovery_d10.svg"}
    assert {path.name for path in folder.iterdir()} == names
    lanes, cells = pd.read_csv(folder / "lanes.csv.gz"), pd.read_csv(folder / "cells.csv")
    assert len(lanes) == cells.lanes.sum() == json.loads((folder / "config.json").read_text())["lanes"] == 320
    assert count_colors(folder / "recovery_d10.png")[1] > 100
    assert (lanes.zeros == lanes.d - lanes.s + lanes.false_zeros - lanes.false_nonzeros).all()
    assert (cells.converged == cells.lanes).all()


@pytest.mark.robustness
def test_small_thresholds_recover_and_large_ones_do_not(folder):
    cells = pd.read_csv(folder / "cells.csv").set_index(["penalty", "share", "ratio"])
    assert (cells.exact["l1", 0.2, 1e-3] == 1).all()
    assert (cells.exact["l1", 0.5, 0.3] < 0.2).all()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--penalty l7", ["penalty", "l7"]),
        ("--activation relu tanh", ["--activation", "tanh"]),
        ("--d 0", ["--d", "0"]),
        ("--share 0.01 --d 20", ["--share", "1 <= s <= d", "0.01"]),
        ("--share 1.5", ["--share", "1.5"]),
        ("--ratio 0 0.1", ["--ratio", "> 0"]),
        ("--ratio 0.1 0.1", ["--ratio", "distinct"]),
        ("--k", ["--k", "at least one"]),
        ("--beta -1", ["--beta", "-1"]),
        ("--tol nan", ["--tol", "nan"]),
        ("--seeds 0", ["--seeds", "0"]),
        ("--max-steps 0", ["--max-steps", "0"]),
    ],
)
def test_bad_input_is_one_line(flags, words, refused):
    error = refused("recovery", flags)
    assert all(word in error for word in words), error
