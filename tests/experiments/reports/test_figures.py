"""A figure as data, and what Vega makes of it: every value that was drawn comes back, named as the legend names it."""

import json
import math
import re

import numpy as np
import pytest
import vl_convert

from experiments.one_layer import figures as plots
from experiments.one_layer.distributions import SHARES, cells
from experiments.penalties.palette import PALETTE
from experiments.penalties.registry import PENALTIES
from experiments.reports import figures, vega
from experiments.reports.figures import LINE, PRINTED, Axis, Figure, Look, level_lines, plain_numbers, spread

A, B = Look("a", "#004488", "square"), Look("b", "#BB5566", "triangle-up")


def one_panel(draw, x=None, y=None):
    figure = Figure()
    draw(figure.panel("Title", x or Axis("x"), y or Axis("y  [rad]")))
    return figure.plain()["panels"][0]


def setting(lanes):
    return lanes.isel(k=0, lam=0, beta=0, learning_rate=0, normalize=0)


def rows(spec):
    """The points in a picture's specification, by series."""
    found = {}
    for row in spec["data"]["values"]:
        found.setdefault(row["s"], []).append((row["x"], row["y"], row["top"]))
    return found


def drawn(figure):
    """The SVG of a picture: Vega accepts its specification."""
    return vl_convert.vegalite_to_svg(vega.picture(figure if isinstance(figure, dict) else figure.plain()))


def test_lines_points_and_bands_come_back():
    x = np.array([1.0, 2.0, 4.0, 8.0])

    def draw(panel):
        panel.band(x, x / 2, 3 * x, A)
        panel.line(x, x**2, A, Look("dashed", dash="dashed"))
        panel.points(x, -x, B)
        panel.points(x, x + 0.5, Look("c"), size=2, opacity=0.5)

    panel = one_panel(draw, x=Axis("x", (0, 9)))
    assert panel["title"] == "Title"
    assert (panel["x"]["label"], panel["y"]["label"], panel["x"]["limits"]) == ("x", "y  [rad]", [0, 9])
    band, line, points, cloud = panel["series"]
    assert (band["kind"], band["x"], band["y"], band["top"]) == ("band", [1, 2, 4, 8], [0.5, 1, 2, 4], [3, 6, 12, 24])
    assert (line["kind"], line["y"], line["dash"], line["marker"]) == ("line", [1, 4, 16, 64], [6, 4], "square")
    assert line["name"] == "a, dashed"
    assert (points["kind"], points["y"], points["marker"], points["color"]) == (
        "points",
        [-1, -2, -4, -8],
        "triangle-up",
        "#BB5566",
    )
    assert (cloud["kind"], cloud["x"], cloud["opacity"]) == ("points", [1, 2, 4, 8], 0.5)


def test_values_in_the_specification_are_those_of_the_figure():
    panel = one_panel(lambda panel: (panel.band([1, 2], [3, 4], [5, 7], A), panel.line([1, 2], [4, math.nan], A)))
    spec = vega.picture({"panels": [panel], "legend": []})["concat"][0]
    assert rows(spec) == {0: [(1, 3, 5), (2, 4, 7)], 1: [(1, 4, 4), (2, None, None)]}
    marks = {layer["mark"]["type"]: layer["transform"] for layer in spec["layer"]}
    assert set(marks) == {"area", "line", "point"}
    assert marks["line"] == marks["point"] != marks["area"]


def test_the_page_gets_the_same_marks_and_sets_points_ends_and_what_is_hidden():
    panel = one_panel(lambda panel: panel.line([1, 2], [4, 5], A))
    spec, printed = vega.specification(panel), vega.picture({"panels": [panel], "legend": []})["concat"][0]
    assert spec["layer"] == printed["layer"]
    assert spec["data"] == {"name": "rows"}
    assert [spec["encoding"][axis]["scale"]["domain"] for axis in "xy"] == [{"expr": "xEnds"}, {"expr": "yEnds"}]
    assert "indexof(hidden, datum.s) < 0" in [one.get("filter") for one in spec["transform"]]
    params = [{"name": name, "value": value} for name, value in (("xEnds", [1, 2]), ("yEnds", [4, 5]), ("hidden", []))]
    vl_convert.vegalite_to_vega(spec | {"data": {"values": [{"s": 0, "x": 1, "y": 4, "top": 4}]}, "params": params})


def test_error_bars_are_segments():
    def draw(panel):
        panel.errors([1, 2], [5, 6], [0.5, 1], A)
        panel.errors([1], [5], [0.5], A, across=[0.25])

    up, both = one_panel(draw)["series"]
    assert (up["kind"], up["x"], up["y"]) == ("segments", [1, 1, None, 2, 2, None], [4.5, 5.5, None, 5, 7, None])
    assert both["x"][3:] == [0.75, 1.25, None]
    assert both["y"][3:] == [5, 5, None]


def test_level_lines_that_are_round_stay_round():
    axis = np.linspace(-1, 1, 301)
    ((x, y),) = level_lines(axis, np.hypot(axis[:, None], axis), 0.5)
    np.testing.assert_allclose(np.hypot(x, y), 0.5, atol=0.001)
    turns = np.abs(np.diff(np.unwrap(np.arctan2(y, x))))
    assert turns.max() < 0.1
    assert 60 < len(x) < 300


def test_level_lines_keep_their_corners():
    axis = np.linspace(-1, 1, 301)
    ((x, y),) = level_lines(axis, np.abs(axis)[:, None] + np.abs(axis), 0.5)
    np.testing.assert_allclose(np.abs(x) + np.abs(y), 0.5, atol=1e-6)
    found = {(round(a, 2) + 0, round(b, 2) + 0) for a, b in zip(x, y, strict=True)}
    assert {(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)} <= found


@pytest.mark.parametrize("scale", ["linear", "log", "symlog"])
def test_scales_and_ticks(scale):
    ticks = {1: "one", 10: "ten"}
    x, y = Axis("x", ticks=ticks), Axis("y", scale=scale, linear=1e-3)
    panel = one_panel(lambda panel: panel.line([1, 10], [1, 10], A), x, y)
    assert panel["y"].get("scale") == (None if scale == "linear" else scale)
    assert panel["y"].get("linear") == (1e-3 if scale == "symlog" else None)
    assert panel["x"]["ticks"] == [[1, "one"], [10, "ten"]]
    assert "ticks" not in panel["y"]
    texts = re.findall(r">([^<>]+)</text>", drawn({"panels": [panel], "legend": []}))
    assert {"one", "ten", "10"} <= set(texts)


def test_whole_axes_have_no_ticks_between_numbers():
    panel = one_panel(lambda panel: panel.line([1, 3], [0.1, 0.2], A), Axis("epoch", whole=True))
    texts = re.findall(r">([\d.]+)</text>", drawn({"panels": [panel], "legend": []}))
    assert [text for text in texts if float(text) >= 1] == ["1", "2", "3"]


def test_ends_hold_all_that_is_drawn_but_words():
    def draw(panel):
        panel.band([1, 2], [3, 4], [5, 8], A)
        panel.line([1, 3], [2, 2], A)
        panel.text(100, 100, "far")

    panel = one_panel(draw)
    for axis, low, high in (("x", 1, 3), ("y", 2, 8)):
        least, most = panel[axis]["limits"]
        assert low - 0.1 * (high - low) < least < low
        assert high < most < high + 0.1 * (high - low)


def test_a_log_axis_has_no_place_for_zero():
    panel = one_panel(lambda panel: panel.line([1, 2, 3], [0, -1, 5], A), y=Axis("y", scale="log"))
    assert panel["series"][0]["y"] == [None, None, 5]
    assert panel["y"]["limits"][0] > 0
    assert one_panel(lambda panel: panel.line([1], [0], A), y=Axis("y", scale="log"))["series"] == []


def test_shared_axes_have_the_same_ends_and_are_named_once():
    figure = Figure(columns=2, share="xy")
    for number in range(4):
        figure.panel("", Axis("right"), Axis("up")).line([0, number], [1, 2 + number], A)
    plain = figure.plain()
    assert all(panel[axis] == plain["panels"][0][axis] for panel in plain["panels"] for axis in "xy")
    texts = re.findall(r">([^<>]+)</text>", drawn(plain))
    assert (texts.count("right"), texts.count("up")) == (2, 2)


def test_the_legend_names_looks_in_order_and_what_kinds_mean_last():
    figure = Figure()
    panel = figure.panel("", Axis("x"), Axis("y"))
    panel.line([0, 1], [0, 1], A)
    panel.points([0], [1], A, PRINTED)
    panel.line([0, 1], [1, 0], B, Look("dashed", dash="dashed"))
    panel.line([0, 1], [1, 1], Look())
    panel.points([0], [np.nan], B, Look("nowhere"))
    found = figure.plain()
    assert [entry["name"] for entry in found["legend"]] == ["a", "b", "printed in the paper", "dashed"]
    series = found["panels"][0]["series"]
    assert [one["name"] for one in series] == ["a", "a, printed in the paper", "b, dashed", ""]
    assert [one["entries"] for one in series] == [[0], [0, 2], [1, 3], []]
    assert [one.get("hollow", False) for one in series] == [False, True, False, False]
    texts = re.findall(r">([^<>]+)</text>", drawn(found))
    assert texts[:4] == ["a", "b", "printed in the paper", "dashed"]


@pytest.mark.parametrize("log", [False, True])
def test_long_lines_are_thinned_where_nobody_sees_it(log):
    x = np.geomspace(1, 1e6, 200_000) if log else np.linspace(0, 9, 200_000)
    y = np.sin(3 * np.log10(x)) if log else np.sin(x)
    y[77_777] = 2
    (line,) = one_panel(lambda panel: panel.line(x, y, A), Axis("x", scale="log" if log else "linear"))["series"]
    assert 100 < len(line["x"]) <= LINE + 2
    assert (line["x"][0], line["x"][-1]) == (pytest.approx(x[0]), pytest.approx(x[-1]))
    assert max(line["y"]) == 2  # a peak of one point too
    kept = np.array(line["y"]) != 2
    places, values = np.array(line["x"])[kept], np.array(line["y"])[kept]
    y[77_777] = y[77_776]
    again = np.interp(np.log(x) if log else x, np.log(places) if log else places, values)
    assert np.abs(again - y).max() < 0.02  # a percent of the height


def test_gaps_stay():
    y = np.where(np.arange(5000) == 2500, np.nan, 1.0)
    (line,) = one_panel(lambda panel: panel.line(np.arange(5000), y, A))["series"]
    assert line["y"].count(None) == 1
    assert {2499, 2500, 2501} <= set(line["x"])


def test_distributions_end_at_the_share_of_what_is_finite():
    (line,) = one_panel(lambda panel: panel.ecdf([3, 1, np.inf, 2], A), Axis("x", (0, 9)))["series"]
    assert (line["x"], line["y"]) == ([1, 1, 2, 3, 9], [0, 25, 50, 75, 75])
    assert line["steps"]
    assert one_panel(lambda panel: panel.ecdf([np.inf], A))["series"] == []


def test_numbers_are_plain_json():
    assert plain_numbers([1, 2.5, math.nan, math.inf, 1e-9, 123456.789]) == [1, 2.5, None, None, 1e-9, 123460]
    assert json.dumps(plain_numbers(np.float32([3, 0.1]))) == "[3, 0.1]"


def test_spread_values_stay_near_theirs_and_in_the_range():
    values = np.repeat([0.0, 50.0, 100.0], 1000)
    found = spread(values, 10, 0, 100)
    assert found.min() >= 0
    assert found.max() <= 100
    assert np.abs(found - values).max() <= 5
    assert len(np.unique(found)) > 2900  # none piled up at an end
    np.testing.assert_array_equal(found, spread(values, 10, 0, 100))


def test_one_palette():
    assert {entry.color for entry in PENALTIES.values()} <= set(PALETTE)
    assert figures.pale("#000080", 0) == "#000080"
    assert figures.pale("#000080", 0.5) == "#8080C0"


def test_every_figure_of_a_sweep_is_data(make_lanes):
    for name, figure in plots.sweep_figures(make_lanes(k=(2, 5))).items():
        found = json.loads(json.dumps(figure.plain(), allow_nan=False))
        named = [one for panel in found["panels"] for one in panel["series"] if one["kind"] != "corner"]
        assert all(panel["series"] for panel in found["panels"]), name
        assert all(one["name"] and one["entries"] for one in named), name
        assert all("better" in drawn(found) for _ in [0] if name == "tradeoff")


def test_shares_of_zeros_stay_between_0_and_100(make_lanes):
    lanes = make_lanes(d=(10,), seeds=200)
    lanes.zeros[...] = np.where(lanes.zeros % 2, 0, 10)
    panel = plots.tradeoff(setting(lanes)).plain()["panels"][0]
    places = [x for one in panel["series"] if one["kind"] == "points" for x in one["x"]]
    assert len(places) > 600
    assert 0 <= min(places) < max(places) <= 100


def test_figures_of_earlier_versions_are_drawn():
    axis = {"label": "x", "limits": [1, 100], "scale": "log"}
    line = {"kind": "line", "name": "l", "color": "#004488", "x": [1, 10, 100], "y": [1, 2, 3], "marker": "rectRot"}
    old = {"title": "", "x": axis, "y": axis | {"scale": "symlog", "linear": 2}, "series": [line]}
    entry = {"name": "l", "color": "#004488", "dash": [], "marker": "rect", "hollow": False, "line": True}
    assert drawn({"panels": [old] * 4, "legend": [entry]}).count("#004488") >= 4 * (1 + 3)
    assert vega.specification(old)["layer"]


def test_cells_hold_the_quantiles_of_the_converged_seeds(make_lanes):
    lanes = make_lanes(penalty=("l1", "l0"), d=(10, 20), k=(2, 5), seeds=50)
    lanes.status[1, 1, 1, ..., 10:] = 1
    found = json.loads(json.dumps(cells(lanes).plain(), allow_nan=False))
    tags = {"Quantity": "θ(ū,w*)", "Setting": "k = 5"}
    (panel,) = (panel for panel in found["panels"] if panel["tags"] == tags and panel["title"] == "d = 20")
    line = next(series for series in panel["series"] if series["name"] == "ℓ0")
    want = np.quantile(lanes.theta_u.values[1, 1, 1].ravel()[:10], np.array(SHARES) / 100, method="nearest")
    np.testing.assert_allclose(line["x"], want, rtol=1e-3)
    assert line["y"] == SHARES
    assert len(found["panels"]) == 6 * 2 * 2


def test_cells_without_a_converged_lane_are_left_out(make_lanes):
    lanes = make_lanes(penalty=("l1", "l0"), d=(10,))
    lanes.status[1] = 2
    shown = cells(lanes).plain()["panels"]
    assert all([series["name"] for series in panel["series"]] == ["ℓ1"] for panel in shown)
    lanes.status[0] = 2
    assert all(panel["series"] == [] for panel in cells(lanes).plain()["panels"])
