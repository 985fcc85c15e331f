"""A figure as data: what was drawn comes back, named as its legend names it."""

import json
import math

import numpy as np
import pytest
from matplotlib.lines import Line2D

from experiments.reports import style
from experiments.reports.chart_data import CLOUDS, LINE, chart, plain_numbers
from experiments.studies.one_layer import figures as plots
from experiments.studies.one_layer.distributions import SHARES, cells


def one_panel(draw, **look):
    figure, axes = style.new_figure(4, 3)
    draw(axes)
    axes.set(**look)
    return chart(figure)["panels"][0]


def test_lines_points_and_bands_come_back():
    x = np.array([1.0, 2.0, 4.0, 8.0])

    def draw(axes):
        axes.fill_between(x, x / 2, 3 * x, color="#004488", alpha=0.2)
        axes.plot(x, x**2, "--s", color="#004488", label="square")
        axes.plot(x, -x, "^", color="#bb5566")
        axes.scatter(x, x + 0.5, s=9, color="#ddaa33", alpha=0.5)

    panel = one_panel(draw, xlabel="x", ylabel="y  [rad]", title="Title", xlim=(0, 9))
    assert panel["title"] == "Title"
    assert (panel["x"]["label"], panel["y"]["label"], panel["x"]["limits"]) == ("x", "y  [rad]", [0, 9])
    band, cloud, line, points = panel["series"]
    assert (band["kind"], band["x"], band["y"], band["top"]) == ("band", [1, 2, 4, 8], [0.5, 1, 2, 4], [3, 6, 12, 24])
    assert (line["kind"], line["y"], line["dash"], line["marker"]) == ("line", [1, 4, 16, 64], [6, 4], "rect")
    assert line["name"] == "square"
    assert (points["kind"], points["y"], points["marker"], points["color"]) == (
        "points",
        [-1, -2, -4, -8],
        "triangle",
        "#bb5566",
    )
    assert (cloud["kind"], cloud["x"], cloud["opacity"]) == ("points", [1, 2, 4, 8], 0.5)


def test_bands_may_have_their_edges_either_way_and_one_point():
    for x in ([3.0], [1.0, 2.0, 5.0]):
        (band,) = one_panel(lambda axes, x=x: axes.fill_between(x, np.add(x, 1), np.subtract(x, 1)))["series"]
        assert (band["y"], band["top"]) == ([v - 1 for v in x], [v + 1 for v in x])


def test_lines_and_spans_over_the_whole_width_lie_in_the_data():
    def draw(axes):
        axes.set_xlim(10, 20)
        axes.axhline(3)
        axes.axhspan(1, 2)

    span, line = one_panel(draw)["series"]
    assert (line["x"], line["y"]) == ([10, 20], [3, 3])
    assert (span["x"], span["y"], span["top"]) == ([10, 20], [1, 1], [2, 2])


def test_error_bars_are_segments():
    panel = one_panel(lambda axes: axes.errorbar([1, 2], [5, 6], yerr=[0.5, 1], capsize=3, color="#004488"))
    bars = next(series for series in panel["series"] if series["kind"] == "segments")
    assert bars["x"] == [1, 1, None, 2, 2, None]
    assert bars["y"] == [4.5, 5.5, None, 5, 7, None]
    assert [series["kind"] for series in panel["series"]].count("line") == 1  # and no caps


def test_level_lines_that_are_round_stay_round():
    axis = np.linspace(-1, 1, 301)
    surface = np.hypot(axis[:, None], axis)
    (series,) = one_panel(lambda axes: axes.contour(axis, axis, surface, levels=[0.5]))["series"]
    x, y = (np.array([v for v in series[name] if v is not None]) for name in "xy")
    np.testing.assert_allclose(np.hypot(x, y), 0.5, atol=0.001)
    assert 12 < len(x) < 60


def test_level_lines_keep_their_corners():
    axis = np.linspace(-1, 1, 301)
    surface = np.abs(axis)[:, None] + np.abs(axis)
    (series,) = one_panel(lambda axes: axes.contour(axis, axis, surface, levels=[0.5]))["series"]
    x, y = (np.array([v for v in series[name] if v is not None]) for name in "xy")
    np.testing.assert_allclose(np.abs(x) + np.abs(y), 0.5, atol=0.01)
    assert len(x) < 20
    assert {(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)} <= {
        (round(a, 2) + 0, round(b, 2) + 0) for a, b in zip(x, y, strict=True)
    }


@pytest.mark.parametrize("scale", ["linear", "log", "symlog"])
def test_scales_and_fixed_ticks(scale):
    def draw(axes):
        axes.plot([1, 10], [1, 10])
        axes.set_yscale(scale, **({"linthresh": 1e-3} if scale == "symlog" else {}))
        axes.set_xticks([1, 10], ["one", "ten"])

    panel = one_panel(draw)
    assert panel["y"].get("scale") == (None if scale == "linear" else scale)
    assert panel["y"].get("linear") == (1e-3 if scale == "symlog" else None)
    assert panel["x"]["ticks"] == [[1, "one"], [10, "ten"]]
    assert "ticks" not in panel["y"]


def test_axes_that_share_a_label_all_have_it():
    figure, panels = style.new_figure(6, 6, nrows=2, ncols=2, sharex=True, sharey=True)
    for axes in panels.flat:
        axes.plot([0, 1], [0, 1])
    panels[0, 0].set_ylabel("up")
    panels[1, 0].set_ylabel("down")
    panels[1, 1].set_xlabel("right")
    panels[0, 1].set_title("top")
    found = chart(figure)["panels"]
    assert [panel["y"]["label"] for panel in found] == ["up", "up", "down", "down"]
    assert [panel["x"]["label"] for panel in found] == ["", "right", "", "right"]
    assert [panel["title"] for panel in found] == ["", "top", "", "top"]


def test_names_follow_colours_and_what_grey_entries_say():
    figure, axes = style.new_figure(4, 3)
    axes.plot([0, 1], [0, 1], color="#004488")
    axes.plot([0], [1], "o", mfc="white", mec="#004488")
    axes.plot([0, 1], [1, 0], "--", color="#bb5566")
    entries = [Line2D([], [], color="#004488", label="a"), Line2D([], [], color="#bb5566", label="b")]
    entries += [Line2D([], [], ls="", marker="D", mfc="white", mec="0.3", label="printed")]
    entries += [Line2D([], [], ls="--", color="0.3", label="dashed")]
    figure.legend(handles=entries)
    found = chart(figure)
    assert [series["name"] for series in found["panels"][0]["series"]] == ["a", "a, printed", "b, dashed"]
    assert [series.get("entries") for series in found["panels"][0]["series"]] == [(0,), (0, 2), (1, 3)]
    assert [entry["name"] for entry in found["legend"]] == ["a", "b", "printed", "dashed"]


@pytest.mark.parametrize("log", [False, True])
def test_long_lines_are_thinned_where_nobody_sees_it(log):
    x = np.geomspace(1, 1e6, 200_000) if log else np.linspace(0, 9, 200_000)
    y = np.sin(3 * np.log10(x)) if log else np.sin(x)
    (line,) = one_panel(lambda axes: axes.plot(x, y), xscale="log" if log else "linear")["series"]
    assert 100 < len(line["x"]) <= LINE[1]
    assert (line["x"][0], line["x"][-1]) == (pytest.approx(x[0]), pytest.approx(x[-1]))
    again = np.interp(np.log(x) if log else x, np.log(line["x"]) if log else line["x"], line["y"])
    assert np.abs(again - y).max() < 0.01  # half a percent of the height


def test_clouds_are_thinned_and_gaps_stay():
    x = np.random.default_rng(0).uniform(size=5000)
    (cloud,) = one_panel(lambda axes: axes.scatter(x, x))["series"]
    assert len(cloud["x"]) == CLOUDS
    y = np.where(np.arange(5000) == 2500, np.nan, 1.0)
    (line,) = one_panel(lambda axes: axes.plot(np.arange(5000), y))["series"]
    assert line["y"].count(None) == 1


def test_numbers_are_plain_json():
    assert plain_numbers([1, 2.5, math.nan, math.inf, 1e-9, 123456.789]) == [1, 2.5, None, None, 1e-9, 123460]
    assert json.dumps(plain_numbers(np.float32([3, 0.1]))) == "[3, 0.1]"


def test_every_figure_of_a_sweep_is_data(make_lanes):
    for name, figure in plots.sweep_figures(make_lanes(k=(2, 5))).items():
        found = json.loads(json.dumps(chart(figure), allow_nan=False))
        assert all(panel["series"] for panel in found["panels"]), name
        assert all(series["name"] for panel in found["panels"] for series in panel["series"]), name


def test_cells_hold_the_quantiles_of_the_converged_seeds(make_lanes):
    lanes = make_lanes(penalty=("l1", "l0"), d=(10, 20), k=(2, 5), seeds=50)
    lanes.status[1, 1, 1, ..., 10:] = 1
    found = json.loads(json.dumps(cells(lanes), allow_nan=False))
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
    assert all([series["name"] for series in panel["series"]] == ["ℓ1"] for panel in cells(lanes)["panels"])
    lanes.status[0] = 2
    assert all(panel["series"] == [] for panel in cells(lanes)["panels"])
