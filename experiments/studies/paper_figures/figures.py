"""The paper's Figures 2, 4, 5, 6 and 7."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ...penalties.registry import look
from ...reports.figures import Axis, Figure, Look, level_lines

DASHES = {"l1": "solid", "tl1": "dashed", "l0": "dashdot"}
LEVELS = ("#B0DD2F", "#70CF57", "#3DBC74", "#21A585", "#218E8D", "#2A768E", "#355E8D", "#414287", "#482475", "#440154")
"""Viridis without its palest part, from the lowest level to the highest."""


def levels(values: Mapping[str, np.ndarray]) -> Figure:
    """Returns Figure 2: ten level lines of each penalty over [-1, 1]²."""
    figure = Figure(columns=len(values), height=220, share="y")
    ticks = {-1: "−1", 0: "0", 1: "1"}
    for name, surface in values.items():
        panel = figure.panel(name, Axis("x₁", (-1, 1), ticks=ticks), Axis("x₂", (-1, 1), ticks=ticks), square=True)
        axis = np.linspace(-1, 1, len(surface))
        # Equally many points between neighbouring lines: near l0 the values crowd at 1 and 2.
        found = np.unique(np.quantile(surface, np.linspace(0, 1, len(LEVELS) + 2)[1:-1]))
        for level, color in zip(found, LEVELS, strict=False):
            panel.segments(level_lines(axis, surface, level), Look(color=color))
    return figure


def thresholding(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Returns Figure 4: what each thresholding does to a number; jumps are left open."""
    figure = Figure(columns=2, height=250, share="xy")
    colors = [look("l1").color, look("l0").color, look("tl1").color, look("tl1").color]
    for (name, (v, x)), color in zip(curves.items(), colors, strict=True):
        panel = figure.panel(name, Axis("v", (-2.6, 2.6)), Axis("prox(v),  λ = 1/2", (-2.6, 2.6)), square=True)
        jump = np.abs(np.diff(x, append=x[-1])) > 20 * (v[1] - v[0])
        panel.line([v[0], v[-1]], [v[0], v[-1]], Look("prox(v) = v", dash="dotted"), width=1.2)
        panel.line(v, np.where(jump, np.nan, x), Look(color=color), width=2.2)
    return figure


def _lines(table: pd.DataFrame, x: Axis, y: Axis, title: str = "", width: int = 480) -> Figure:
    figure = Figure(width=width, height=300)
    panel = figure.panel(title, x, y)
    for name in map(str, table.columns):
        panel.line(table.index, table[name], Look(look(name).label, look(name).color, dash=DASHES[name]))
    return figure


def huber(envelopes: pd.DataFrame) -> Figure:
    """Returns Figure 5: the Moreau envelopes."""
    return _lines(envelopes, Axis("x"), Axis("min over y of ½(y − x)² + λρ(y)"), "λ = 0.05")


def angles(gamma: pd.DataFrame) -> Figure:
    """Returns Figure 6: γ over the draws."""
    return _lines(gamma, Axis("draw of X", whole=True), Axis("γ = θ(X, prox(X))  [rad]", (0, None)), width=620)


def descent(lagrangian: pd.DataFrame) -> Figure:
    """Returns Figure 7: the Lagrangian over the steps."""
    return _lines(lagrangian, Axis("step", whole=True), Axis("L(u, w)", scale="log"))
