"""Statistics of a sweep against loops over its lanes."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest

from experiments.one_layer.summary import METRICS, summarize, to_frame

COLUMNS = "penalty,d,k,lam,beta,a,learning_rate,normalize,metric,mean,std,sem,min,max,count"


def test_columns_and_rows_match_the_documentation(make_lanes, tmp_path):
    lanes = make_lanes(k=(2, 5))
    to_frame(summarize(lanes)).to_csv(tmp_path / "summary.csv", index=False)
    lines = (tmp_path / "summary.csv").read_text().splitlines()
    assert lines[0] == COLUMNS
    assert len(lines) == 1 + 3 * 2 * 2 * len(METRICS)


def test_every_row_equals_a_loop_over_its_converged_lanes(make_lanes):
    lanes = make_lanes(
        penalty=("l0", "tl1(a=0.5)", "tl1(a=2)"), a=(np.nan, 0.5, 2.0), beta=(4e-3, 1e-2), rate=(0.1, 0.2)
    )
    rng = np.random.default_rng(1)
    lanes["status"] = lanes.status.dims, rng.integers(0, 3, lanes.status.shape, np.int8)
    lanes["theta_w"] = lanes.theta_w.where(lanes.status != 2)
    frame = to_frame(summarize(lanes))
    assert len(frame) == 3 * 2 * 2 * 2 * len(METRICS)
    for row in frame.itertuples():
        label = row.penalty if math.isnan(row.a) else f"{row.penalty}(a={row.a:g})"
        where = {"penalty": label, "d": row.d, "k": row.k, "lam": row.lam, "beta": row.beta}
        cell = lanes.sel(where, method=None).sel(learning_rate=row.learning_rate, normalize=row.normalize)
        kept = cell.status.values.ravel() == 0
        values = [float(x) for x in cell[row.metric].values.ravel()[kept]]
        assert row.count == len(values)
        if values:
            assert row.mean == pytest.approx(statistics.fmean(values), rel=1e-13)
            assert (row.min, row.max) == (min(values), max(values))
        if len(values) > 1:
            assert row.std == pytest.approx(statistics.stdev(values), rel=1e-12)
            assert row.sem == pytest.approx(row.std / math.sqrt(len(values)), rel=1e-13)


def test_sums_are_in_float64(make_lanes):
    lanes = make_lanes(penalty=("l1",), d=(10,), seeds=4000)
    lanes["f_u"] = lanes.f_u + np.float32(1000)
    row = to_frame(summarize(lanes)).set_index("metric").loc["f_u"]
    values = [float(x) for x in lanes.f_u.values.ravel()]
    assert row["mean"] == pytest.approx(statistics.fmean(values), rel=1e-14)
    assert row["std"] == pytest.approx(statistics.stdev(values), rel=1e-9)


@pytest.mark.parametrize("kept", [0, 1])
def test_unknown_spread_is_empty(make_lanes, tmp_path, kept):
    lanes = make_lanes(penalty=("l1",), d=(10,))
    lanes.status[..., kept:] = 1
    to_frame(summarize(lanes)).to_csv(tmp_path / "summary.csv", index=False)
    text = pd.read_csv(tmp_path / "summary.csv", dtype=str, keep_default_na=False)
    assert set(text["count"]) == {str(kept)}
    assert set(text["std"]) == set(text["sem"]) == {""}
    for column in ("mean", "min", "max"):
        assert (text[column] == "").all() == (kept == 0)


def test_learning_rate_is_the_one_in_use_and_a_may_be_empty(make_lanes):
    frame = to_frame(summarize(make_lanes(beta=(4e-3, 1e-2))))
    assert np.allclose(frame.learning_rate, 1 / (frame.beta + 4), rtol=1e-15)
    assert set(frame.a[frame.penalty == "tl1"]) == {1.0}
    assert frame.a[frame.penalty != "tl1"].isna().all()
