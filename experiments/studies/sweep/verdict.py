"""Verdict on the paper's tables: which rows agree with our converged draws, which do not, and why."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from ...one_layer import paper_comparison as compare
from ...penalties.registry import label
from ...reports.document import Section, Table
from ...reports.names import ROWS


def agreement(cells: xr.Dataset) -> Section:
    """Returns the numbers of printed values within our draws, and why the others are outside."""
    rows = compare.limit_rows(cells)
    table = []
    for metric, part in [*rows.groupby("metric", sort=False), ("all", rows)]:
        n, inside, near = len(part), int(part.inside.sum()), int(part.within_two.sum())
        verdict = "agrees" if inside == n else f"{n - inside} outside"
        table.append([ROWS.get(str(metric), "all"), f"{inside} of {n}", f"{near} of {n}", verdict])
    blocks: list[str | Table] = [Table(["row", "inside min to max", "within 2 std", "verdict"], table)]
    outside = rows[~rows.inside]
    if len(outside):
        listed = [
            [
                label(m["penalty"]),
                f"{m['d']}",
                ROWS[m["metric"]],
                f"{m['paper']:.5e}",
                f"{m['min']:.3e} to {m['max']:.3e}",
                f"{m['deviations']:.1f}",
            ]
            for m in outside.to_dict("records")
        ]
        blocks.append(
            Table(["penalty", "d", "row", "paper", "our range", "std from mean"], listed, "Outside", labels=3)
        )
        blocks.append(_why_outside(cells, outside))
    return Section("Rows θ(ū,w*), f(ū), f(ū/‖ū‖), d − ‖ū‖₀ against our draws", blocks)


def _why_outside(cells: xr.Dataset, outside: pd.DataFrame) -> str:
    angles = compare.with_printed_angle(cells)
    angles = angles.set_index(["penalty", "d"]).loc[sorted(set(zip(outside.penalty, outside.d, strict=True)))]
    reached = int((angles.reach >= angles.paper).sum())
    return (
        "The printed θ(w̄,w*) of these cells is no limit (next section) and is part of θ(ū,w*). Added at right angles "
        f"to ours, it carries the largest of our draws beyond the printed value in {reached} of {len(angles)} cells. "
        "f(ū/‖ū‖) is a function of θ(ū,w*) alone."
    )


def no_limits(cells: xr.Dataset) -> Section:
    """Returns why the printed θ(w̄,w*) and f(w̄) are not those of limits."""
    rows = compare.impossible_rows(cells)
    table = []
    for r in rows.to_dict("records"):
        allowed_13, sharp = max(r["allowed_13"], r["allowed_13_draws"]), r["allowed_17_l0"]
        bounds = [_compared(r["distance"], allowed_13), _compared(r["pull"], r["allowed_17"])]
        bounds.append("" if np.isnan(sharp) else _compared(r["pull"], sharp))
        table.append([label(r["penalty"]), f"{r['d']}", f"{r['theta']:.3g}", f"{r['theta_max']:.3g}", *bounds])
    columns = ["", "d", "θ printed", "our largest", "(13)", "(17), ‖ū‖ ≤ 1", "(17), cos γ"]
    off = 100 * float(np.abs(rows.f_from_theta - 1).max())
    text = (
        "Of a limit the paper proves ‖w̄ − w*‖ ≤ 4kβ sin γ (13) and ((π − θ)/(kπ)) sin θ = β‖ū‖ sin γ (17), with θ = "
        "∠(w̄,w*), γ = ∠(w̄,ū). It prints no γ, but γ ≤ θ(w̄,w*) + θ(ū,w*), both printed. With that γ, or for (13) the "
        "largest γ of our draws if it is larger, the table has the left side against the largest right side. After "
        "hard thresholding ‖ū‖ = cos γ, so the right side of (17) is at most β/2."
    )
    violations = (
        f"Broken: (13) by {_where(rows, 'breaks_13')}; (17) with ‖ū‖ ≤ 1 by {_where(rows, 'breaks_17')}; "
        f"(17) with ‖ū‖ = cos γ by {_where(rows, 'breaks_17_l0')}. f(w̄) of a unit vector is a function of θ(w̄,w*): "
        f"the printed f(w̄) follow from the printed angles within {off:.1g} %, so that row falls with the other."
    )
    return Section("Rows θ(w̄,w*) and f(w̄): no limits", [text, Table(columns, table, labels=2), violations])


def smallest_loss(cells: xr.Dataset) -> Section:
    """Returns which penalty has the smallest f(w̄), here and in the paper's text and tables."""
    rows = compare.orders(cells)
    table = [
        [f"{r['d']}", *(" < ".join(label(p) for p in order) for order in (r["ours"], r["paper"]))]
        for r in rows.to_dict("records")
    ]
    text = "The paper's text has ℓ1 smallest, then Tℓ1, then ℓ0 (section 5.3), and elsewhere ℓ0 smallest (section 1)."
    return Section(
        "Which penalty has the smallest f(w̄)", [text, Table(["d", "our means", "the paper's tables"], table)]
    )


def _compared(left: float, right: float) -> str:
    return f"{left:.2g} {'>' if left > right else '≤'} {right:.2g}"


def _where(rows: pd.DataFrame, flag: str) -> str:
    """Returns the d at which each penalty has the flag, as text."""
    parts = []
    for penalty, part in rows.groupby("penalty", sort=False):
        at = list(part.d[part[flag]])
        if at:
            parts.append(
                f"{label(str(penalty))} at " + ("every d" if len(at) == len(part) else "d = " + ", ".join(map(str, at)))
            )
    return ", ".join(parts) or "none"
