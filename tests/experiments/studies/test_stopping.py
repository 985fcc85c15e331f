"""Stopping rules: trajectories against a plain loop, stops and scores against synthetic runs, the record."""

import json

import jax
import numpy as np
import pandas as pd
import pytest

from experiments.cli import main as cli
from experiments.papers import arxiv_1812_05719 as paper
from experiments.records.lanes import drawn, lane_keys
from experiments.studies.stopping import report as stopping_report
from experiments.studies.stopping import scores as stopping_scores
from experiments.studies.stopping import simulate as stopping_runs

SETTING = stopping_runs.Setting("sphere", "positive", 0.2)
LAM, BETA, K = 1e-4, 4e-3, 2


def soft(w):
    return np.sign(w) * np.maximum(np.abs(w) - LAM / BETA, 0)


def turned(u, v):
    return np.arccos(u @ v / (np.linalg.norm(u) * np.linalg.norm(v)))


def gradient(w, w_star):
    """A Lemma 5.4.2 as printed, at ‖w‖ = ‖w*‖ = 1."""
    theta = turned(w, w_star)
    first = K + (K**2 - K) / np.pi - K / np.pi * np.sin(theta) - (K**2 - K) / np.pi
    return (first * w - K / np.pi * (np.pi - theta) * w_star) / K**2


@pytest.fixture(scope="module")
def run():
    with jax.enable_x64(True):
        return stopping_runs.trajectories(SETTING, "l1", 10, 5, jax.random.key(2), 4.0)


def test_trajectories_match_a_plain_loop(run):
    with jax.enable_x64(True):
        keys = [lane_keys(jax.random.key(2), np.arange(5), stream) for stream in (20, 21)]
        w_star = np.asarray(drawn(jax.random.normal, keys[0], (stopping_runs.ROWS,)))[:, :10]
        w0 = np.asarray(drawn(jax.random.uniform, keys[1], (stopping_runs.ROWS,)))[:, :10]
    assert (w0 > 0).all()
    w_star, w0 = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (w_star, w0))
    for i in range(5):
        w = w0[i]
        for t in range(20):
            assert run["theta_w"][i, t] == pytest.approx(turned(w, w_star[i]), abs=1e-7)
            assert run["gap"][i, t] == pytest.approx(np.linalg.norm(w - soft(w)))
            assert run["zeros"][i, t] == (soft(w) == 0).sum()
            new = w - 0.2 * gradient(w, w_star[i]) - 0.2 * BETA * (w - soft(w))
            new /= np.linalg.norm(new)
            assert run["move_w_1"][i, t] == pytest.approx(np.abs(new - w).sum(), rel=1e-6)
            assert run["move_w_rel"][i, t] == pytest.approx(np.abs((new - w) / new).max(), rel=1e-6)
            assert run["move_u_2"][i, t] == pytest.approx(np.linalg.norm(soft(new) - soft(w)), rel=1e-6)
            w = new
    assert run["theta_w"].shape == (5, 21)


def test_what_a_rule_watches(run):
    change = np.abs(run["f_u"][:, 1:] - run["f_u"][:, :-1])
    assert np.array_equal(stopping_runs.watched(run, "f_u"), change)
    assert np.allclose(stopping_runs.watched(run, "f_u_rel"), change / run["f_u"][:, 1:])
    assert all(stopping_runs.watched(run, rule).shape == (5, 20) for rule in stopping_runs.RULES)
    assert (stopping_runs.stops(stopping_runs.watched(run, "steps"), np.array([-7.0])) == 7).all()


def test_a_run_stops_after_the_first_step_under_the_tolerance():
    values = np.array([[5.0, 3.0, 4.0, 1.0, 2.0]])
    assert stopping_runs.stops(values, np.array([0.5, 1.5, 3.5, 6.0])).tolist() == [[5, 4, 2, 1]]


def synthetic_runs(rule_error):
    """Returns runs whose error decreases by a tenth per step; a rule on ``rule_error`` gives the printed angles."""
    rng = np.random.default_rng(0)
    runs = {}
    for penalty in paper.TABLES:
        for d in paper.DIMENSIONS:
            decay = 0.9 ** np.arange(200) * np.exp(0.1 * rng.normal(size=(50, 1)))
            names = {"theta_w": decay, "f_w": decay**2, "zeros": np.round(10 * decay)}
            rest = {name: decay for name in stopping_runs.STATE if name not in names}
            printed = paper.value(penalty, "theta_w", d)
            moves = {f"move_{name}": decay[:, 1:] for name in stopping_runs.MOVES}
            runs[penalty, d] = names | rest | moves | {f"move_{rule_error}": 1e-3 * decay[:, 1:] / printed}
    return runs


@pytest.mark.robustness
def test_the_true_rule_has_the_best_score():
    table, curves = stopping_scores.scores(SETTING, synthetic_runs("w_max"), 0)
    best = stopping_report.best(table)
    one = best[best.free == 1].iloc[0]
    assert one.rule == "max |Δwᵢ|"
    assert one.tolerance_l0 == pytest.approx(1e-3, rel=0.2)
    assert (one.angles, one.error < 1.1) == (15, True)
    assert best[best.free == 1].iloc[1].log_likelihood < one.log_likelihood - 20
    middle = curves[(curves.rule == one.rule) & (curves.free == 1)]
    printed = [paper.value(row.penalty, "theta_w", row.d) for row in middle.itertuples()]
    assert np.allclose(np.log(middle["median"] / printed), 0, atol=0.15)
    assert one.rule in stopping_report.verdict(table)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("stopping") / "record"
    assert cli.main(["stopping", "--quick", "--quiet", "--time", "16", "--out", str(out)]) == 0
    return out


@pytest.mark.robustness
def test_record_is_whole(folder, count_colors, report_files):
    names = {*report_files, "scores.csv", "curves.csv", "rules.png", "rules.svg"}
    assert {path.name for path in folder.iterdir()} == names
    scores = pd.read_csv(folder / "scores.csv")
    assert len(scores) == 2 * len(stopping_runs.RULES) == json.loads((folder / "config.json").read_text())["rules"]
    assert np.isfinite(scores.log_likelihood).all()
    assert count_colors(folder / "rules.png")[1] > 100


@pytest.mark.robustness
def test_rules_on_the_step_length_fail_with_one_tolerance(folder):
    scores = pd.read_csv(folder / "scores.csv").set_index(["rule", "free"])
    assert scores.log_likelihood["‖Δw‖₂", 1] < -100
    assert scores.log_likelihood["|ΔL|", 1] < -100
    assert scores.log_likelihood["‖Δw‖₁", 3] > 10
    assert scores.angles["‖Δw‖₁", 3] == 15


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--w-star sphere cube", ["--w-star", "cube"]),
        ("--w0", ["--w0", "at least one"]),
        ("--learning-rate 0", ["--learning-rate", "0"]),
        ("--learning-rate 0.1 0.1", ["--learning-rate", "distinct"]),
        ("--seeds 3", ["--seeds", "3"]),
        ("--time 0.1", ["--time", "0.1"]),
    ],
)
def test_bad_input_is_one_line(flags, words, refused):
    error = refused("stopping", flags)
    assert all(word in error for word in words), error
