"""A real record of ``sweep --quick``."""

import json
import xml.etree.ElementTree

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from rich.cells import cell_len


def test_succeeds_quietly(quick):
    assert (quick.code, quick.errors) == (0, "")
    assert list(quick.folder.parent.iterdir()) == [quick.folder]


def test_summary_agrees_with_the_data(quick):
    lanes = xr.open_zarr(quick.folder / "data.zarr").load()
    summary = pd.read_csv(quick.folder / "summary.csv")
    assert list(lanes.penalty.values) == ["l1", "l0", "tl1"]
    assert lanes.sizes["seed"] == 100
    assert len(summary) == 3 * 2 * 2 * 13
    for row in summary.sample(40, random_state=0).itertuples():
        values = lanes[row.metric].sel(penalty=row.penalty, d=row.d, k=row.k).values.astype(float)
        assert row.count == values.size == 100
        assert row.mean == pytest.approx(np.mean(values), rel=1e-12)
        assert row.std == pytest.approx(np.std(values, ddof=1), rel=1e-9)


def test_config_records_the_run(quick):
    config = json.loads((quick.folder / "config.json").read_text())
    flags = config["config"]
    assert (flags["penalty"], flags["d"], flags["k"], flags["seeds"]) == (["l1", "l0", "tl1"], [10, 20], [2, 3], 100)
    assert (flags["tol"], flags["key"], flags["precision"]) == (1e-6, 0, "float32")
    assert config["lanes"] == 1200
    assert config["status"] == {"converged": 1200, "step cap": 0, "diverged": 0}
    assert {"python", "jax", "jaxlib", "optax", "flax", "numpy", "rvsmjax", "xarray", "zarr"} <= set(config["versions"])
    assert {"set-up", "compilation", "run", "report"} == set(config["seconds"])
    assert config["lanes_per_second"] == pytest.approx(1200 / config["seconds"]["run"])
    assert config["steps"]["waste"] == config["steps"]["executed"] / config["steps"]["needed"] >= 1
    assert config["peak_memory_bytes"] > 1e7
    assert config["commit"] is None or set(config["commit"]) == {"hash", "dirty"}
    assert config["learning_rate_used"] == [[pytest.approx(1 / 4.004, rel=1e-6)]]


def test_report_shows_the_tables_beside_the_paper(quick):
    report = (quick.folder / "report.md").read_text()
    summary = pd.read_csv(quick.folder / "summary.csv").set_index(["penalty", "d", "k", "metric"])
    for title in ("Table 1: ℓ0", "Table 2: Tℓ1, a = 1", "Table 3: ℓ1", "Convergence", "Time", "Figures"):
        assert title in report
    for index in [("l0", 10, 2, "theta_u"), ("tl1", 20, 2, "f_u"), ("l1", 20, 3, "theta_w")]:
        row = summary.loc[index]
        assert f"{row['mean']:.3e} ± {row['sem']:.1e}" in report
    assert "| 7.52479e-02 ✗ | 9.48354e-02 ✗ |" in report  # l1, θ(ū,w*): outside our draws
    assert "| 8.75685e-03 † | 6.68412e-03 † |" in report  # l0, θ(w̄,w*): no limit
    assert "| 3.37294e-01 | 5.28306e-01 |" in report  # l0, θ(ū,w*): inside
    for name in ("tradeoff", "against_d", "against_k", "distributions"):
        assert f"]({name}.png)" in report


def test_terminal_shows_the_papers_tables_and_no_more_than_100_columns(quick):
    assert max(map(cell_len, quick.shown.splitlines()[:-1])) <= 100  # the last line is the record's path
    for text in ("Table 1: ℓ0", "Table 3: ℓ1", "7.52479e-02 ✗", "Converge", str(quick.folder)):
        assert text in quick.shown
    assert "k = 3" not in quick.shown


@pytest.mark.parametrize("name", ["tradeoff", "against_d", "against_k", "distributions"])
def test_figures_are_more_than_frames(quick, name, count_colors):
    pixels, colors = count_colors(quick.folder / f"{name}.png")
    assert pixels > 300_000
    assert colors > 100
    root = xml.etree.ElementTree.parse(quick.folder / f"{name}.svg").getroot()
    assert len(list(root.iter())) > 100
