"""Figures of a seed study: accuracy against sparsity, and learning curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...penalties.registry import look
from ...reports.style import STYLE, new_figure
from .report import name_of
from .summary import interval

if TYPE_CHECKING:
    from .study import Study

OTHERS = {"top_k": ("#228833", "D"), "none": ("0.45", "")}
LINES = ("-", ":", "-.", "--")
SHOWN, LEFT = 0.08, 0.015
"""Accuracies further below the best are cut off, and networks with a smaller share of weights left."""


def figures(summary: pd.DataFrame, study: Study) -> dict[str, Figure]:
    """Returns the figures by name."""
    return {"tradeoff": tradeoff(summary), "learning": learning(study.curves)}


@matplotlib.rc_context(STYLE)
def tradeoff(summary: pd.DataFrame) -> Figure:
    """Returns validation accuracy of u over its zeros, means with 95 % intervals; a line for each β and η."""
    figure, axes = new_figure(7.2, 4.8)
    entries = []
    strengths = summary.dropna(subset="beta")[["beta", "learning_rate"]].drop_duplicates().to_numpy().tolist()
    for penalty, part in summary.groupby("penalty", sort=False):
        color, marker = _look(penalty)
        style = {"color": color, "marker": marker, "mec": "white"}
        entries.append(Line2D([], [], **style, ls="--" if penalty == "none" else "-", label=name_of(penalty)))
        if penalty == "none":
            best = part.loc[part.accuracy_u.idxmax()]
            axes.axhline(100 * best.accuracy_u, color=color, ls="--", zorder=1)
            low, high = (100 * (best.accuracy_u + sign * best.accuracy_u_half) for sign in (-1, 1))
            axes.axhspan(low, high, color=color, alpha=0.15, lw=0, zorder=0)
            continue
        for strength, line in part.sort_values("zeros").groupby(["beta", "learning_rate"]):
            errors = {"xerr": 100 * line.zeros_half, "yerr": 100 * line.accuracy_u_half, "elinewidth": 1.2}
            ls = LINES[strengths.index(list(strength)) % len(LINES)]
            axes.errorbar(100 - 100 * line.zeros, 100 * line.accuracy_u, **errors, **style, ls=ls)
    rates = summary.learning_rate.nunique() > 1
    for i, (beta, rate) in enumerate(strengths):
        name = f"β = {beta:g}" + f", η = {rate:g}" * rates
        entries.append(Line2D([], [], color="0.3", ls=LINES[i % len(LINES)], label=name))
    top = 100 * (summary.accuracy_u + summary.accuracy_u_half).max()
    axes.set(xlabel="zeros in u  [%]", ylabel="validation accuracy of u  [%]", ylim=(top - 100 * SHOWN, top + 0.5))
    # Towards many zeros each halving of what is left has the same room.
    axes.set(xscale="log", xlim=(105, 100 * LEFT))
    axes.set_xticks([100, 50, 20, 10, 5, 2], ["0", "50", "80", "90", "95", "98"])
    axes.minorticks_off()
    figure.legend(handles=entries, loc="outside upper center", ncols=min(len(entries), 7), columnspacing=1.2)
    return figure


@matplotlib.rc_context(STYLE)
def learning(curves: pd.DataFrame) -> Figure:
    """Returns validation accuracy and zeros of u over the epochs, for the chosen settings."""
    figure, (above, below) = new_figure(7.2, 6.0, nrows=2, sharex=True)
    for penalty, part in curves[curves.chosen].groupby("penalty", sort=False):
        for metric, axes in (("accuracy_u", above), ("zeros", below)):
            bands = part.groupby("epoch")[metric].apply(interval)
            middle, half = 100 * np.array(bands.tolist()).T
            color = _look(penalty)[0]
            axes.fill_between(bands.index, middle - half, middle + half, color=color, alpha=0.2, lw=0)
            axes.plot(bands.index, middle, color=color, label=name_of(penalty))
    best = 100 * curves[curves.chosen].accuracy_u.max()
    above.set(ylabel="validation accuracy of u  [%]", ylim=(best - 100 * SHOWN, best + 0.5))
    below.set(xlabel="epoch", ylabel="zeros in u  [%]", ylim=(-2, 102))
    handles, labels = above.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=len(handles))
    return figure


def _look(penalty: str) -> tuple[str, str]:
    """Returns color and marker."""
    return OTHERS.get(penalty) or (look(penalty).color, look(penalty).marker)
