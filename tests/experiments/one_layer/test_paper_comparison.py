"""Comparison with the paper on synthetic draws with known results."""

import numpy as np
import pytest

from experiments.one_layer import paper_comparison as compare
from experiments.one_layer.summary import summarize
from experiments.papers import arxiv_1812_05719 as paper

ALL_D = (10, 20, 30, 40, 50)


def spread_around(lanes, offset, width):
    """Returns lanes with each row equally spaced over (printed value)·(1 + width·(offset ± 1))."""
    for metric in paper.LIMIT_ROWS:
        for i, penalty in enumerate(lanes.penalty.values):
            for j, d in enumerate(lanes.d.values):
                value = (
                    max(paper.value(penalty, metric, d), 1) if metric == "zeros" else paper.value(penalty, metric, d)
                )
                grid = np.linspace(-1, 1, lanes.sizes["seed"])
                lanes[metric] = lanes[metric].astype(float)
                lanes[metric][i, j, 0, 0, 0, 0, 0] = value * (1 + width * (grid + offset))
    return lanes


@pytest.mark.parametrize(("offset", "inside", "near"), [(0, 60, 60), (0.9, 60, 60), (-1.5, 0, 0), (1.1, 0, 60)])
def test_inside_and_within_two_count_printed_values(make_lanes, offset, inside, near):
    lanes = spread_around(make_lanes(d=ALL_D, seeds=101), offset, 0.5)
    rows = compare.limit_rows(compare.at_paper_setting(summarize(lanes)))
    rows = rows[~((rows.metric == "zeros") & (rows.paper == 0))]  # synthetic draws are around 1
    # std of equally spaced draws over ±h is about h/√3, so two of them reach 1.15 h.
    lost = 60 - len(rows)
    assert lost == 1
    assert rows.inside.sum() == inside - (lost if inside else 0)
    assert rows.within_two.sum() == near - (lost if near else 0)
    expected = np.abs(rows.paper - rows["mean"]) / rows["std"]
    assert np.allclose(rows.deviations, expected)


def test_only_the_papers_setting_is_compared(make_lanes):
    lanes = make_lanes(
        penalty=("l1", "tl1(a=0.5)", "tl1(a=1)"),
        a=(np.nan, 0.5, 1.0),
        d=(7, 10),
        k=(3, 2),
        lam=(1e-3, 1e-4),
        beta=(1e-2, 4e-3),
    )
    cells = compare.at_paper_setting(lanes)
    assert list(cells.penalty.values) == ["tl1", "l1"]
    assert list(cells.d.values) == [10]
    assert (int(cells.k), float(cells.lam), float(cells.beta)) == (2, 1e-4, 4e-3)
    assert np.array_equal(cells.f_u.sel(penalty="tl1").values.ravel(), lanes.f_u.values[2, 1, 1, 1, 1, 0, 0])


@pytest.mark.parametrize(
    "other", [{"k": (3,)}, {"lam": (2e-4,)}, {"beta": (1e-2,)}, {"d": (7,)}, {"penalty": ("tl1",), "a": (2.0,)}]
)
def test_other_settings_are_not_compared(make_lanes, other):
    assert compare.at_paper_setting(make_lanes(**other)) is None


def test_printed_angles_violate_the_known_bounds(make_lanes):
    lanes = make_lanes(d=ALL_D)
    lanes["gamma"] = lanes.gamma * 0 + 1e-3
    rows = compare.impossible_rows(compare.at_paper_setting(summarize(lanes)))
    by = rows.set_index(["penalty", "d"])
    assert list(rows.penalty[rows.breaks_13].value_counts().sort_index().items()) == [("l1", 5), ("tl1", 5)]
    assert list(rows.d[rows.breaks_17 & (rows.penalty == "l0")]) == [10, 20, 30, 40]
    assert list(rows.penalty[rows.breaks_17_l0]) == ["l0"] * 5
    # By hand: 0.032·sin(0.0752479 + 0.0557468); (π − 0.00875685)/(2π)·sin 0.00875685; 0.004·sin(0.868654 + 0.00494954).
    assert by.allowed_13["l1", 10] == pytest.approx(4.1799e-3, rel=1e-4)
    assert by.pull["l0", 10] == pytest.approx(4.36616e-3, rel=1e-4)
    assert by.allowed_17["l0", 50] == pytest.approx(3.06657e-3, rel=1e-4)
    assert (by.allowed_17_l0["l0"] <= 0.002).all()
    # Beyond π/4 the smallest γ allows most: 0.868654 − 0.00494954.
    assert by.allowed_17_l0["l0", 50] == pytest.approx(0.004 * np.sin(0.86370446) * np.cos(0.86370446), rel=1e-9)


def test_a_wide_gamma_of_the_draws_counts_in_favour_of_the_paper(make_lanes):
    lanes = make_lanes(d=ALL_D)
    lanes["gamma"] = lanes.gamma * 0 + np.pi / 2
    rows = compare.impossible_rows(compare.at_paper_setting(summarize(lanes)))
    # Whatever γ, ‖w̄ − w*‖ is at most 4kβ = 0.032.
    assert [(r.penalty, r.d) for r in rows.itertuples() if r.breaks_13] == [("l1", 10), ("l1", 20), ("l1", 30)]


def test_order_of_losses(make_lanes):
    lanes = make_lanes(d=ALL_D)
    lanes["f_w"] = lanes.f_w * 0 + np.array([1.0, 3.0, 2.0])[:, None, None, None, None, None, None, None]
    rows = compare.orders(compare.at_paper_setting(summarize(lanes)))
    assert all(order == ["l1", "tl1", "l0"] for order in rows.ours)
    assert all(order == ["l0", "tl1", "l1"] for order in rows.paper)


def test_printed_angle_is_added_at_right_angles(make_lanes):
    lanes = make_lanes()
    lanes["theta_u"] = lanes.theta_u * 0 + 0.06
    rows = compare.with_printed_angle(compare.at_paper_setting(summarize(lanes))).set_index(["penalty", "d"])
    assert rows.reach["l1", 10] == pytest.approx((0.06**2 + 0.0557468**2) ** 0.5, rel=1e-5)
