"""The paper's Figures 2, 4, 5, 6 and 7: functions from data to matplotlib Figures."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...penalties.registry import look
from ...reports.style import STYLE, new_figure

LINES = {"l1": "-", "tl1": "--", "l0": "-."}
styled = matplotlib.rc_context(STYLE)


@styled
def level_lines(values: Mapping[str, np.ndarray]) -> Figure:
    """Returns Figure 2: ten level lines of each penalty over [-1, 1]²."""
    figure, panels = new_figure(10.5, 3.1, ncols=len(values), sharey=True)
    axis = np.linspace(-1, 1, next(iter(values.values())).shape[0])
    for axes, (name, surface) in zip(panels, values.items(), strict=True):
        # Equally many points between neighbouring lines: near l0 the values crowd at 1 and 2.
        levels = np.unique(np.quantile(surface, np.linspace(0, 1, 12)[1:-1]))
        axes.contour(axis, axis, surface, levels=levels, cmap="viridis", linewidths=1.4)
        axes.set(title=name, aspect="equal", xlabel="x₁", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    panels[0].set_ylabel("x₂")
    return figure


@styled
def thresholding(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Returns Figure 4: what each thresholding does to a number; jumps are left open."""
    figure, panels = new_figure(6.6, 6.6, nrows=2, ncols=2, sharex=True, sharey=True)
    colors = [look("l1").color, look("l0").color, look("tl1").color, look("tl1").color]
    for axes, (name, (v, x)), color in zip(panels.flat, curves.items(), colors, strict=True):
        jump = np.abs(np.diff(x, append=x[-1])) > 20 * (v[1] - v[0])
        axes.plot(v, v, color="0.6", ls=":", lw=1.2)
        axes.plot(v, np.where(jump, np.nan, x), color=color, lw=2.2)
        axes.set(title=name, aspect="equal")
    figure.supxlabel("v")
    figure.supylabel("prox(v),  λ = 1/2")
    return figure


@styled
def huber(envelopes: pd.DataFrame) -> Figure:
    """Returns Figure 5: the Moreau envelopes."""
    figure, axes = new_figure(6.4, 4.2)
    for name, values in envelopes.items():
        axes.plot(envelopes.index, values, color=look(name).color, ls=LINES[name], lw=2.2, label=look(name).label)
    axes.set(xlabel="x", ylabel="min over y of ½(y − x)² + λρ(y)", title="λ = 0.05")
    axes.legend()
    return figure


@styled
def angles(gamma: pd.DataFrame) -> Figure:
    """Returns Figure 6: γ over the draws."""
    figure, axes = new_figure(7.6, 4.2)
    for name, values in gamma.items():
        axes.plot(gamma.index, values, color=look(name).color, ls=LINES[name], label=look(name).label)
    axes.set(xlabel="draw of X", ylabel="γ = θ(X, prox(X))  [rad]", ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=len(gamma.columns))
    return figure


@styled
def descent(lagrangian: pd.DataFrame) -> Figure:
    """Returns Figure 7: the Lagrangian over the steps."""
    figure, axes = new_figure(6.4, 4.2)
    for name, values in lagrangian.items():
        axes.plot(lagrangian.index, values, color=look(name).color, ls=LINES[name], lw=2.2, label=look(name).label)
    axes.set(xlabel="step", ylabel="L(u, w)", yscale="log")
    axes.legend()
    return figure
