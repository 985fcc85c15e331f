"""Logistic losses: the loss, a lane against a plain loop, the watched Lagrangian, the record."""

import jax
import numpy as np
import pandas as pd
import pytest

from experiments.cli import main as cli
from experiments.studies.classify import report, run, simulate
from experiments.studies.classify.config import ClassifyConfig

SMALL = {"penalty": ("l1",), "lam": (1e-3,), "d": 3, "k": 2, "m": (30,), "scale": 3.0, "seeds": 3, "max_steps": 40}


def loss(w, x, y):
    logits = 3 * (np.maximum(x @ w, 0).mean(1) - 1 / np.sqrt(2 * np.pi))
    return np.mean(np.log1p(np.exp(logits)) - y * logits)


def shrunk(w):
    return np.sign(w) * np.maximum(np.abs(w) - 0.25, 0)  # λ/β = 1e-3 / 4e-3


@pytest.mark.parametrize("normalize", [True, False])
def test_lanes_agree_with_a_plain_loop(normalize):
    lanes = run.limits(ClassifyConfig(**SMALL, labels=("random",), normalize=(normalize,)))
    assert (lanes.steps == 40).all()
    with jax.enable_x64(True):
        network = simulate.Network(3, 2, 30, 3.0, "random")
        for _, lane in lanes.iterrows():
            key = jax.random.fold_in(jax.random.key(0), int(lane.seed))
            w, w_star, x, y = map(np.asarray, network.draw(key))
            values = []
            for _ in range(41):
                u = shrunk(w)
                values.append(loss(w, x, y) + 1e-3 * np.abs(u).sum() + 2e-3 * np.sum((w - u) ** 2))
                if len(values) == 41:
                    break
                units = x @ w
                chance = 1 / (1 + np.exp(-3 * (np.maximum(units, 0).mean(1) - 1 / np.sqrt(2 * np.pi))))
                gradient = 3 * np.einsum("m,mk,mkd->d", chance - y, units > 0, x) / (2 * 30)
                w = w - (gradient + 4e-3 * (w - u)) / (4e-3 + 9 / 4)
                w = w / np.linalg.norm(w) if normalize else w
            assert lane.norm == pytest.approx(np.linalg.norm(w))
            assert lane.loss == pytest.approx(loss(w, x, y))
            assert lane.rise == pytest.approx(np.diff(values).max(), abs=1e-12)
            cosine = w @ w_star / np.linalg.norm(w)
            assert lane.theta_w == pytest.approx(np.arccos(cosine), abs=1e-7)


def test_labels_follow_w_star():
    draw = simulate.Network(4, 2, 4000, 4.0, "certain").draw
    _, w_star, x, y = map(np.asarray, draw(jax.random.key(3)))
    outputs = np.maximum(x @ w_star, 0).mean(1)
    np.testing.assert_array_equal(y, outputs > 1 / np.sqrt(2 * np.pi))
    drawn = np.asarray(simulate.Network(4, 2, 4000, 4.0, "random").draw(jax.random.key(3))[3])
    chance = 1 / (1 + np.exp(-4 * (outputs - 1 / np.sqrt(2 * np.pi))))
    # Independent of one another: the sum has this variance.
    assert abs((drawn - chance).sum()) < 4 * np.sqrt((chance * (1 - chance)).sum())
    assert 0.3 < (drawn != y).mean() / np.minimum(chance, 1 - chance).mean() < 3


def test_a_rise_is_counted():
    row = {"labels": "random", "normalize": True, "penalty": "l1", "lam": 0.1, "m": 9, "converged": True}
    lanes = pd.DataFrame([row | dict.fromkeys(report.MEASURES, 1.0) | {"rise": rise} for rise in (-1e-3, 1e-13, 0.2)])
    (cell,) = report.summarize(lanes).to_dict("records")
    assert (cell["rising"], cell["largest_rise"], cell["seeds"]) == (1, 0.2, 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--labels none", "labels must be one of random, certain, got 'none'"),
        ("--scale 0", "scale must be finite and > 0, got 0.0"),
        ("--m 0", "m must be a whole number >= 1, got (0,)"),
    ],
)
def test_bad_flags_are_one_line(flags, message, capsys):
    assert cli.main(["classify", *flags.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.robustness
def test_record_is_whole(tmp_path):
    out = tmp_path / "out"
    assert cli.main(["classify", "--quick", "--out", str(out), "--quiet"]) == 0
    table = pd.read_csv(out / "summary.csv")
    assert len(table) == 8
    assert (table.seeds == 8).all()
    assert {"report.html", "report.md", "lanes.csv.gz"} <= {path.name for path in out.iterdir()}
