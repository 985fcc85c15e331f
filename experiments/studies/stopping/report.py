"""What the scores of the stopping rules say: tables, a verdict, a figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ...papers import arxiv_1812_05719 as paper
from ...penalties.registry import look
from ...reports.document import Picture, Section, Table
from ...reports.figures import PRINTED, Axis, Figure, Look
from .simulate import MADE_TO_FIT

SETTING = ["w_star", "w0", "learning_rate"]


def sections(table: pd.DataFrame, config: Any) -> list[Section]:
    """Returns the report."""
    text = (
        f"{config.seeds:,} random problems for each d, shared by the penalties; λ, β, k and a as in the paper; runs of "
        f"{config.time:g}/η steps. A rule stops a run after the first step in which what it watches is under its "
        "tolerance. The tolerance is the one under which the 15 printed θ(w̄,w*) are most likely, Gaussian in their "
        "logarithms, one problem for each d (log-likelihood: larger is better). Distance: of the printed logarithms "
        "from the mean, squared, in units of their spread; about 15 is expected. p: share of tables drawn from the "
        "rule itself that lie as far. Angles: printed θ(w̄,w*) inside the range of the draws, of 15; cells: values in "
        "all six rows, of 90. Error: printed over median, as a factor, geometric mean."
    )
    return [
        Section("What was tried", [text], False),
        Section("One tolerance for all cells", [_best(table[table.free == 1], "tolerance")]),
        Section("One tolerance for each penalty", [_best(table[table.free > 1], "tolerances")]),
        Section("Verdict", [verdict(table)]),
        Section("Figure", [Picture("rules.png", _caption())], False),
    ]


def best(table: pd.DataFrame) -> pd.DataFrame:
    """Returns for each rule and number of tolerances the setting of the largest likelihood, best first."""
    ranked = table.sort_values("log_likelihood", ascending=False, kind="stable")
    return ranked.drop_duplicates(["rule", "free"])


def _best(table: pd.DataFrame, name: str) -> Table:
    rows = []
    row: Any  # the stubs of pandas leave its fields open
    for row in best(table).itertuples():
        tolerances = [getattr(row, f"tolerance_{penalty}") for penalty in paper.TABLES]
        shown = tolerances[:1] if row.free == 1 else tolerances
        counts = f"{row.angles}", f"{row.cells}", f"{row.error:.2f}"
        fit = f"{row.log_likelihood:.1f}", f"{row.distance:.3g}", f"{row.p_far:.2g}"
        laws = f"{row.w_star}, {row.w0}", f"{row.learning_rate:g}"
        rows.append([row.rule, *fit, *counts, " / ".join(f"{x:.2g}" for x in shown), *laws])
    columns = ["watched", "log-likelihood", "distance", "p", "angles", "cells", "error", name, "w*, w⁰", "η"]
    return Table(columns, rows)


def verdict(table: pd.DataFrame) -> str:
    """Returns what stands out, computed from the scores."""
    ranked = best(table[table.rule != MADE_TO_FIT])
    one, (own, second) = ranked[ranked.free == 1].iloc[0], (ranked[ranked.free > 1].iloc[i] for i in range(2))
    fitted = best(table[(table.rule == MADE_TO_FIT) & (table.free == 1)]).iloc[0]
    ratios = ", ".join(f"{look(p).label} {own[f'tolerance_{p}'] / own.learning_rate:.3g}" for p in paper.TABLES)
    return (
        f"With one tolerance for all cells the best rule watches {one.rule}: log-likelihood {one.log_likelihood:.1f}, "
        f"{one.angles} of 15 angles and {one.cells} of 90 values inside the draws. With one tolerance for each penalty "
        f"it is {own.rule}: {own.log_likelihood:.1f} (the next, {second.rule}: {second.log_likelihood:.1f}), "
        f"{own.angles} of 15, {own.cells} of 90, the printed angles within a factor {own.error:.2f} of the medians; "
        f"tolerance over η: {ratios}. What the printed numbers have in common, found by looking at them and so no "
        f"evidence for a rule: θ(w̄,w*)·∠(w̄,ū) is about the same in all cells; {fitted.rule} with one tolerance has "
        f"{fitted.log_likelihood:.1f}, {fitted.angles} of 15, {fitted.cells} of 90, factor {fitted.error:.2f}."
    )


def _caption() -> str:
    return (
        "θ(w,w*) at the stop, medians and 5 to 95 % of the draws: the best rule with one tolerance, the best with one "
        "for each penalty, and what was made to fit; hollow: printed in the paper."
    )


def figure(table: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Returns θ_w at the stop over d beside the printed values, a panel for each of the best rules."""
    ranked = best(table)
    fitted = ranked[(ranked.rule == MADE_TO_FIT) & (ranked.free == 1)]
    usable = ranked[ranked.rule != MADE_TO_FIT]
    chosen = [part.index[0] for part in (usable[usable.free == 1], usable[usable.free > 1], fitted)]
    result = Figure(columns=len(chosen), width=270, share="y")
    x = Axis("dimension d", ticks={d: f"{d}" for d in paper.DIMENSIONS})
    for place in chosen:
        row = table.loc[place]
        kind = "one tolerance" if row.free == 1 else "a tolerance for each penalty"
        panel = result.panel(f"{row.rule}, {kind}", x, Axis("θ(w, w*) at the stop  [rad]", scale="log"))
        same = np.logical_and.reduce([curves[name] == row[name] for name in (*SETTING, "rule", "free")])
        for penalty in paper.TABLES:
            part, own = curves[same & (curves.penalty == penalty)], look(penalty)
            panel.band(part.d, part.low, part.high, Look(own.label, own.color))
            panel.line(part.d, part["median"], Look(own.label, own.color))
            printed = [paper.value(penalty, "theta_w", d) for d in part.d]
            panel.points(part.d, printed, Look(own.label, own.color, own.marker), PRINTED, size=5)
    return result
