"""RVSM and ADMM: the exact w-step and stationary points against brute force, the record."""

import functools
import json

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import optimize

import rvsmjax as rv
from experiments.cli import main as cli
from experiments.studies.admm import report as admm_report
from experiments.studies.admm import simulate as admm_runs

D, K = 6, 3


@pytest.fixture(scope="module")
def problems():
    rng = np.random.default_rng(5)
    drawn = rng.normal(size=(2, 8, D))
    return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


def loss(w, w_star):
    """A eq. 8 as printed, one vector."""
    n, m = np.linalg.norm(w), np.linalg.norm(w_star)
    theta = np.arccos(np.clip(w @ w_star / (n * m), -1, 1))
    g = n * m * (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / (2 * np.pi)
    b = (K**2 - K) / (2 * np.pi)
    return ((b + K / 2) * (n**2 + m**2) - 2 * K * g - 2 * b * n * m) / K**2


@pytest.mark.parametrize("normalize", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_w_step_is_the_argmin_in_all_dimensions(x64, problems, normalize):
    w_star, last = problems
    rng = np.random.default_rng(1)
    centre, betas = rng.normal(size=w_star.shape), np.geomspace(4e-3, 3, len(last))
    step = functools.partial(admm_runs.w_step, rv.NoOverlapReLU(K), normalize=normalize)
    minimisers = jax.jit(jax.vmap(step))(w_star, centre, betas, last)
    for w, a, b, beta in zip(np.asarray(minimisers), w_star, centre, betas, strict=True):

        def height(v, a=a, b=b, beta=beta):
            v = v / np.linalg.norm(v) if normalize else v
            return loss(v, a) + beta / 2 * np.sum((v - b) ** 2)

        lowest = min(optimize.minimize(height, start, tol=1e-10).fun for start in (a, b, *rng.normal(size=(3, D))))
        assert height(w) <= lowest + 1e-8
        if normalize:
            assert np.linalg.norm(w) == pytest.approx(1)


@pytest.mark.parametrize(
    ("method", "normalize"),
    [
        ("admm", True),
        pytest.param("modified", True, marks=pytest.mark.slow),
        pytest.param("admm", False, marks=pytest.mark.slow),
        pytest.param("modified", False, marks=pytest.mark.slow),
    ],
)
def test_admm_converges_to_a_stationary_point_of_the_penalised_loss(x64, problems, method, normalize):
    lam, beta = 0.05, 0.2
    lanes = admm_runs.Lanes(problems[0], problems[1], np.full(8, lam), np.full(8, beta))
    run = functools.partial(admm_runs.run_tile, method=method, penalty=rv.L1(), k=K, tol=1e-10, max_steps=5000)
    end = jax.jit(functools.partial(run, normalize=normalize))(lanes)
    assert end.converged.all()
    assert (end.gap < 1e-9).all()
    assert 0 < end.zeros.mean() < 1
    for u, w_star in zip(np.asarray(end.u), problems[0], strict=True):
        h = 1e-6
        slope = np.array([(loss(u + h * e, w_star) - loss(u - h * e, w_star)) / (2 * h) for e in np.eye(D)])
        pull = slope + lam * np.sign(u)
        if normalize:
            multiplier = pull @ u
            pull = pull - multiplier * u
        assert np.abs(pull[u != 0]).max() < 1e-5
        assert np.abs(slope[u == 0]).max(initial=0) < lam + 1e-5


def test_rvsm_keeps_a_gap_given_by_its_threshold(x64, problems):
    lanes = admm_runs.Lanes(problems[0], problems[1], np.full(8, 1e-3), np.full(8, 4e-2))
    run = functools.partial(admm_runs.run_tile, method="rvsm", penalty=rv.L1(), k=K, tol=1e-9, max_steps=5000)
    end = jax.jit(functools.partial(run, normalize=True))(lanes)
    assert end.converged.all()
    cut = np.where(np.abs(problems[0]) <= 0.025, problems[0], 0.025)  # w is w* within kβ
    assert np.allclose(end.gap, np.linalg.norm(cut, axis=1), rtol=0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("admm") / "record"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "prepare_jax", lambda precision: None)
        assert cli.main(["admm", "--quick", "--quiet", "--out", str(out)]) == 0
    return out


@pytest.mark.robustness
def test_record_is_whole(folder, count_colors, report_files):
    drawn = {f"{name}.{kind}" for name in ("dense", "nonzero_0.2") for kind in ("png", "svg")}
    assert {path.name for path in folder.iterdir()} == drawn | {
        *report_files,
        *("summary.csv", "lanes.csv.gz"),
    }
    lanes = pd.read_csv(folder / "lanes.csv.gz")
    assert json.loads((folder / "config.json").read_text())["lanes"] == len(lanes) == 3 * 2 * 2 * 4
    assert count_colors(folder / "dense.png")[1] > 50
    text = (folder / "report.md").read_text()
    assert "Is RVSM's u much more sparse?" in text
    assert "nan" not in text


@pytest.mark.robustness
def test_summary_agrees_with_the_lanes(folder):
    lanes, cells = (pd.read_csv(folder / name) for name in ("lanes.csv.gz", "summary.csv"))
    for row in cells.itertuples():
        part = lanes[(lanes.method == row.method) & (lanes.nonzero == row.nonzero) & (lanes.lam == row.lam)]
        assert len(part) == row.runs == 4
        assert row.zeros_mean == pytest.approx(part.zeros.mean())
        assert row.gap_std == pytest.approx(np.std(part.gap, ddof=1))
        assert row.rests == part.converged.mean()


def test_equal_sparsity_interpolates():
    common = {"penalty": "l1", "normalize": False, "nonzero": 1.0, "beta": 0.1, "rests": 1.0}
    rvsm = [{"method": "rvsm", "zeros_mean": 0.5, "theta_u_mean": 0.2}]
    admm = [{"method": "admm", "zeros_mean": z, "theta_u_mean": t} for z, t in ((0.4, 0.2), (0.6, 0.4))]
    table = admm_report.equal_sparsity(pd.DataFrame([common | row for row in rvsm + admm])).blocks[1]
    assert list(table.rows[0]) == ["1", "ℓ1", "no", "0.1", "1.50 (1)", "–"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--penalty l1 l7", ["--penalty", "l7"]),
        ("--lam 0", ["--lam", "0"]),
        ("--beta nan", ["--beta", "nan"]),
        ("--nonzero 0 1", ["--nonzero", "(0, 1]"]),
        ("--nonzero 1 1", ["--nonzero", "distinct"]),
        ("--tol -1", ["--tol", "-1"]),
        ("--max-steps 0", ["--max-steps", "0"]),
        ("--d 0", ["--d", "0"]),
        ("--seeds 0", ["--seeds", "0"]),
    ],
)
def test_bad_input_is_one_line(flags, words, refused):
    error = refused("admm", flags)
    assert all(word in error for word in words), error
