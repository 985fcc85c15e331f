"""Limits on samples: inputs, a lane against a plain loop, fitted powers, the record."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import rvsmjax as rv
from experiments.cli import main as cli
from experiments.studies.samples import problem as samples
from experiments.studies.samples import report, run, summary
from experiments.studies.samples.config import SamplesConfig


def test_patches_overlap():
    components = np.arange(12).reshape(2, 6)
    assert samples.patches(components, 3, 2, 2).tolist() == [[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]]
    assert samples.patches(components, 2, 4, 1)[1].tolist() == [[6, 7, 8, 9], [7, 8, 9, 10]]


@pytest.mark.parametrize("law", samples.LAWS)
def test_components_have_mean_0_and_variance_1(law):
    values = np.asarray(samples.LAWS[law](jax.random.key(1), (200, 1000)))
    assert abs(values.mean()) < 0.01
    assert values.var() == pytest.approx(1, abs=0.03)
    fourth = {"gaussian": 3, "uniform": 1.8, "signs": 1, "student": 9}[law]
    assert (values**4).mean() == pytest.approx(fourth, rel=0.3 if law == "student" else 0.03)


def drawn(problem, seed, noise):
    """Returns what a lane draws; the sweep gives a problem the first half of the lane's key."""
    key = jax.random.split(jax.random.fold_in(jax.random.key(0), seed))[0]
    lane = rv.sweep.Lane(problem, noise=noise)
    return problem.draw(key, lane)


def test_lanes_agree_with_a_plain_loop():
    cell = {"penalty": ("l0",), "law": ("uniform",), "m": (40,), "noise": (0.0,), "stride": (2,)}
    config = SamplesConfig(**cell, d=4, k=3, lam=2e-4, seeds=2, reference=400)
    lanes = run.limits(config)
    assert len(lanes) == 2
    assert lanes.ended.all()
    with jax.enable_x64(True):
        problem = samples.SampledRisk(4, 3, "uniform", 40, stride=2)
        for _, lane in lanes.iterrows():
            w, (w_star, x, y) = jax.tree.map(np.asarray, drawn(problem, lane.seed, 0.0))
            assert x.shape == (40, 3, 4)
            np.testing.assert_array_equal(x[:, 0, 2:], x[:, 1, :2])
            np.testing.assert_allclose(y, np.maximum(x @ w_star, 0).mean(1), atol=1e-12)
            for _ in range(int(lane.steps)):
                units = x @ w
                errors = np.maximum(units, 0).mean(1) - y
                gradient = 2 * np.einsum("m,mk,mkd->d", errors, units > 0, x) / (3 * 40)
                u = np.where(np.abs(w) > np.sqrt(2 * 2e-4 / 4e-3), w, 0)
                w = w - (gradient + 4e-3 * (w - u)) / (4e-3 + 4)
                w = w / np.linalg.norm(w)
            u = np.where(np.abs(w) > np.sqrt(2 * 2e-4 / 4e-3), w, 0)
            assert lane.zeros == (u == 0).sum()
            assert lane.theta_w == pytest.approx(2 * np.arcsin(np.linalg.norm(w - w_star) / 2), abs=1e-9)
    assert (lanes.apart > 0).all()


def test_a_gradient_on_a_minibatch_is_that_of_its_rows():
    problem = samples.SampledRisk(3, 2, m=20, batch=4)
    w, (w_star, x, y) = drawn(problem, 5, 0.3)
    key = jax.random.key(8)
    rows = jax.random.randint(key, (4,), 0, 20)
    part = jax.grad(lambda w: jnp.mean((jnp.maximum(x[rows] @ w, 0).mean(1) - y[rows]) ** 2))(w)
    np.testing.assert_allclose(problem.grad(w, (w_star, x, y), key), part, atol=1e-6)
    assert np.abs(y - np.maximum(x @ w_star, 0).mean(1)).std() > 0.1  # the labels have noise


def cells(power, errors):
    m = np.array([50, 100, 1000, 10_000])
    values = 3.0 * m**-power
    cell = {"penalty": "l1", "law": "gaussian", "stride": 10, "batch": 0, "noise": 0.0}
    columns = {"m": m, "seeds": 9, "open": 0, "theta_u": 0.1, "theta_u_se": 0.0, "zeros": 1.0, "zeros_se": 0.0}
    columns |= {"theta_w": values, "theta_w_se": 0.0}
    return pd.DataFrame(cell | columns | dict.fromkeys(summary.FITTED, values) | errors(values))


def test_powers_of_exact_data_are_exact():
    table = cells(0.5, lambda values: {"excess_se": values * [0.1, 0.1, 0.1, 0.9], "apart_se": values / 20})
    fits = summary.exponents(table).set_index("quantity")
    assert fits.p.tolist() == pytest.approx([0.5, 0.5])
    assert fits.scale.tolist() == pytest.approx([3.0, 3.0])
    assert fits.points.tolist() == [3, 4]  # a mean within two standard errors of 0 is left out
    # Weighted least squares by hand: var p = σ² / Σ (log m − mean)².
    logs = np.log([50, 100, 1000])
    assert fits.p_se["excess"] == pytest.approx(0.1 / np.sqrt(((logs - logs.mean()) ** 2).sum()))


def test_report_has_every_cell():
    table = cells(0.5, lambda values: {"excess_se": values / 10, "apart_se": values / 20})
    config = SamplesConfig(penalty=("l1",), law=("gaussian",), noise=(0.0,))
    parts = report.sections(table, summary.exponents(table), list(report.figures(table, config)), config)
    powers, angles = parts[1].blocks[0], parts[2].blocks[0]
    assert powers.rows == [["ℓ1", "gaussian", "10", "whole", "0", "0.500 ± 0.024 (4)", "0.500 ± 0.012 (4)"]]
    assert [row[5] for row in angles.rows] == ["50", "100", "1,000", "10,000"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--law cauchy", "law must be one of gaussian, uniform, signs, student, got 'cauchy'"),
        ("--m 0", "m must be a whole number >= 1, got (0,)"),
        ("--noise -1", "noise must be finite and >= 0, got (-1.0,)"),
        ("--law signs --reference 400", "reference must be at least 10 times the smallest m, got 400"),
        ("--m 50 50", "m must hold distinct values, at least one, got [50, 50]"),
    ],
)
def test_bad_flags_are_one_line(flags, message, capsys):
    assert cli.main(["samples", *flags.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.robustness
def test_record_is_whole(tmp_path):
    out = tmp_path / "out"
    flags = ["--law", "gaussian", "--m", "50", "200", "800", "--seeds", "12", "--noise", "0", "0.1"]
    assert cli.main(["samples", "--quick", *flags, "--out", str(out), "--quiet"]) == 0
    table = pd.read_csv(out / "summary.csv")
    assert len(table) == 6
    assert (table.open == 0).all()
    fits = pd.read_csv(out / "fits.csv").set_index(["noise", "quantity"])
    assert 0.3 < fits.p[0.1, "apart"] < 0.8
    assert json.loads((out / "config.json").read_text())["lanes"] == 72
    assert {"report.html", "apart.png", "excess.png", "lanes.csv.gz"} <= {path.name for path in out.iterdir()}
