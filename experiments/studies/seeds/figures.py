"""Figures of a seed study: accuracy against sparsity, and learning curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...penalties import palette
from ...penalties.registry import look
from ...reports.figures import DASHES, Axis, Figure, Look
from .report import name_of
from .summary import interval

if TYPE_CHECKING:
    from .study import Study

OTHERS = {"top_k": (palette.GREEN, "diamond"), "none": (palette.INK, "")}
SHOWN, LEFT = 0.08, 0.015
"""Accuracies further below the best are cut off, and networks with a smaller share of weights left."""


def figures(summary: pd.DataFrame, study: Study) -> dict[str, Figure]:
    """Returns the figures by name."""
    return {"tradeoff": tradeoff(summary), "learning": learning(study.curves)}


def tradeoff(summary: pd.DataFrame) -> Figure:
    """Returns validation accuracy of u over its zeros, means with 95 % intervals; a line for each β and η."""
    top = 100 * (summary.accuracy_u + summary.accuracy_u_half).max()
    # Towards many zeros each halving of what is left has the same room.
    left = {100: "0", 50: "50", 20: "80", 10: "90", 5: "95", 2: "98"}
    figure = Figure(width=520, height=340)
    ends = 105.0, 100 * LEFT
    x = Axis("zeros in u  [%]", ends, "log", left)
    panel = figure.panel("", x, Axis("validation accuracy of u  [%]", (top - 100 * SHOWN, top + 0.5)))
    rates = summary.learning_rate.nunique() > 1
    strengths = summary.dropna(subset="beta")[["beta", "learning_rate"]].drop_duplicates().to_numpy().tolist()
    kinds = [
        Look(f"β = {beta:g}" + f", η = {rate:g}" * rates, dash=list(DASHES)[i % len(DASHES)])
        for i, (beta, rate) in enumerate(strengths)
    ]
    for penalty in dict.fromkeys(summary.penalty):
        part, own = summary[summary.penalty == penalty], _look(penalty)
        if penalty == "none":
            best = part.nlargest(1, "accuracy_u").iloc[0]
            middle, half = 100 * best.accuracy_u, 100 * best.accuracy_u_half
            panel.band(ends, [middle - half] * 2, [middle + half] * 2, own, opacity=0.15)
            panel.line(ends, [middle] * 2, own)
            continue
        for strength, line in part.sort_values("zeros").groupby(["beta", "learning_rate"]):
            places, values = 100 - 100 * line.zeros, 100 * line.accuracy_u
            looks = own, kinds[strengths.index(list(strength))]
            panel.line(places, values, *looks)
            panel.errors(places, values, 100 * line.accuracy_u_half, *looks, across=100 * line.zeros_half)
    return figure


def learning(curves: pd.DataFrame) -> Figure:
    """Returns validation accuracy and zeros of u over the epochs, for the chosen settings."""
    best = 100 * curves[curves.chosen].accuracy_u.max()
    axes = {
        "accuracy_u": Axis("validation accuracy of u  [%]", (best - 100 * SHOWN, best + 0.5)),
        "zeros": Axis("zeros in u  [%]", (-2, 102)),
    }
    figure = Figure(width=520, height=200, share="x")
    for metric, y in axes.items():
        panel = figure.panel("", Axis("epoch", whole=True), y)
        for penalty in dict.fromkeys(curves[curves.chosen].penalty):
            part = curves[curves.chosen & (curves.penalty == penalty)]
            bands = part.groupby("epoch")[metric].apply(interval)
            middle, half = 100 * np.array(bands.tolist()).T
            look = Look(name_of(penalty), _look(penalty).color)
            panel.band(bands.index, middle - half, middle + half, look)
            panel.line(bands.index, middle, look)
    return figure


def _look(penalty: str) -> Look:
    color, marker = OTHERS.get(penalty) or (look(penalty).color, look(penalty).marker)
    return Look(name_of(penalty), color, marker, "dashed" if penalty == "none" else "solid")
