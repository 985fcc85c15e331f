"""The paper's figures: data against formulas, the record."""

import json

import numpy as np
import pandas as pd
import pytest

from experiments.cli import main as cli
from experiments.studies.paper_figures import data as figure_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("figures") / "record"
    assert cli.main(["figures", "--quiet", "--key", "3", "--out", str(out)]) == 0
    return out


@pytest.mark.robustness
def test_record_is_whole(folder, count_colors, report_files):
    names = {path.name for path in folder.iterdir()}
    drawn = {f"figure_{n}.{kind}" for n in (2, 4, 5, 6, 7) for kind in ("png", "svg")}
    assert names == drawn | {*report_files, "figure_6.csv", "figure_7.csv"}
    assert json.loads((folder / "config.json").read_text())["config"]["key"] == 3
    for n in (2, 4, 5, 6, 7):
        assert count_colors(folder / f"figure_{n}.png")[1] > 100


def test_figure_2_values():
    values = figure_data.level_values()
    x = np.linspace(-1, 1, 301)
    i, j = 60, 260
    size = np.abs([x[j], x[i]])
    assert values["ℓ1"][i, j] == pytest.approx(size.sum(), rel=1e-5)
    for a in (100, 1, 0.01):
        assert values[f"Tℓ1, a = {a:g}"][i, j] == pytest.approx(((a + 1) * size / (a + size)).sum(), rel=1e-5)


def test_figure_4_jumps_as_in_the_paper():
    curves = figure_data.thresholded()
    jumps = {name: np.abs(np.diff(x)).max() for name, (_, x) in curves.items()}
    edges = {name: v[x != 0][v[x != 0] > 0].min() for name, (v, x) in curves.items()}
    smooth, sub = "soft (ℓ1)", "Tℓ1, a = 2 (subcritical)"
    hard, beyond = "hard (ℓ0)", "Tℓ1, a = 0.5 (supercritical)"
    # Thresholds at λ = 1/2: λ; λ(a + 1)/a; √(2λ); √(2λ(a + 1)) − a/2.
    for name, edge in {smooth: 0.5, sub: 0.75, hard: 1.0, beyond: 1.5**0.5 - 0.25}.items():
        assert edges[name] == pytest.approx(edge, abs=0.003)
    assert max(jumps[smooth], jumps[sub]) < 0.05
    assert min(jumps[hard], jumps[beyond]) > 0.5


def test_figure_5_is_the_huber_function():
    envelopes = figure_data.huber()
    x, lam = envelopes.index.to_numpy(), 0.05
    assert np.allclose(envelopes.l0, np.minimum(x**2 / 2, lam), atol=1e-7)
    assert np.allclose(envelopes.l1, np.where(np.abs(x) < lam, x**2 / 2, lam * np.abs(x) - lam**2 / 2), atol=1e-7)
    y = np.linspace(-1.2, 1.2, 4801)
    brute = np.min(0.5 * (y - x[:, None]) ** 2 + lam * 2 * np.abs(y) / (1 + np.abs(y)), axis=1)
    assert np.allclose(envelopes.tl1, brute, atol=1e-6)


@pytest.mark.robustness
def test_figure_6_l1_has_the_smallest_angle(folder):
    angles = pd.read_csv(folder / "figure_6.csv", index_col="draw")
    assert angles.shape == (100, 3)
    assert (angles.idxmin(axis=1) == "l1").all()


@pytest.mark.robustness
def test_figure_7_the_lagrangian_never_rises(folder):
    traces = pd.read_csv(folder / "figure_7.csv", index_col="step")
    assert len(traces) == 151
    # At the limit w is w* up to 1e-3, so L is β times the Moreau envelope there: Σ min(βw²/2, λ) for l0.
    w_star = np.asarray(figure_data._directions(3, 7, 2, 30)[1])
    assert traces.l0.iloc[-1] == pytest.approx(np.minimum(2e-3 * w_star**2, 1e-4).sum(), rel=1e-2)
    assert (traces.iloc[0] > 10 * traces.iloc[-1]).all()
    assert (np.diff(traces, axis=0) <= 1e-6 * traces.iloc[:-1]).all(axis=None)
