"""Figures of tuning at a required sparsity."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ...penalties import registry
from ...reports.style import STYLE, new_figure
from .summary import WIDTH, reference, tuned


def tune_figures(results: xr.Dataset, paths: pd.DataFrame) -> dict[str, Figure]:
    """Returns the figures by name."""
    with matplotlib.rc_context(STYLE):
        drawn = {"angles": _draw_angles(results)}
        if len(paths) and (paths.penalty == "tl1").any():
            drawn["paths"] = _draw_paths(results, paths[paths.penalty == "tl1"])
    return drawn


def _draw_angles(results: xr.Dataset) -> Figure:
    zeros, shares = results.truth_zeros.values, results.sparsity.values
    size = (3.6 * len(shares) + 1.2, 2.8 * len(zeros) + 0.9)
    figure, panels = new_figure(*size, nrows=len(zeros), ncols=len(shares), squeeze=False, sharex=True)
    best, start = tuned(results), results.sel(tuner="start")
    place = np.arange(results.sizes["d"])
    for i, truth in enumerate(zeros):
        for j, share in enumerate(shares):
            axes, here = panels[i][j], {"truth_zeros": truth, "sparsity": share}
            floor = best.best.sel(here | {"penalty": reference(results)}).mean("seed")
            for n, kind in enumerate(results.penalty.values):
                look = {"color": registry.look(kind).color, "marker": registry.look(kind).marker, "ms": 8}
                at = place + 0.14 * (n - (results.sizes["penalty"] - 1) / 2)
                hollow = start.theta.sel(here | {"penalty": kind}).mean("seed")
                axes.plot(at, hollow, ls="", **look | {"mfc": "white", "ms": 11})
                theta = best.theta.sel(here | {"penalty": kind})
                half = WIDTH * theta.std("seed", ddof=1) / np.sqrt(theta.sizes["seed"])
                axes.errorbar(at, theta.mean("seed"), half, ls="", capsize=3, **look | {"ms": 6})
            axes.hlines(floor, place - 0.3, place + 0.3, color="0.35", lw=1)
            axes.set_xticks(place, [f"{d}" for d in results.d.values])
            axes.set_title(f"{100 * share:g} % zeros in ū, {100 * truth:g} % in w*")
            axes.set_ylim(0, 1.1 * axes.dataLim.ymax)
        panels[i][0].set_ylabel("θ(ū, w*)  [rad]")
    for axes in panels[-1]:
        axes.set_xlabel("dimension d")
    entries = [
        Line2D(
            [],
            [],
            ls="",
            color=registry.look(k).color,
            marker=registry.look(k).marker,
            ms=8,
            label=registry.look(k).label,
        )
        for k in results.penalty.values
    ]
    entries += [
        Line2D([], [], ls="", marker="D", mfc="white", mec="0.3", ms=8, label="at the paper's β, a"),
        Line2D([], [], color="0.35", lw=1, label="least possible"),
    ]
    figure.legend(handles=entries, loc="outside upper center", ncols=len(entries))
    return figure


def _draw_paths(results: xr.Dataset, paths: pd.DataFrame) -> Figure:
    truth, shares = results.truth_zeros.values[0], results.sparsity.values
    figure, panels = new_figure(3.6 * len(shares) + 1.2, 5.6, nrows=2, ncols=len(shares), squeeze=False, sharex=True)
    for j, share in enumerate(shares):
        for n, d in enumerate(results.d.values):
            chosen = paths[(paths.d == d) & (paths.sparsity == share) & (paths.truth_zeros == truth)]
            grid = results.sel(penalty="tl1", d=d, sparsity=share, truth_zeros=truth, tuner="grid")
            color = matplotlib.colormaps["viridis"](0.15 + 0.7 * n / max(results.sizes["d"] - 1, 1))
            for axes, name, found in ((panels[0][j], "theta", grid.train_theta), (panels[1][j], "a", grid.a)):
                axes.plot(chosen.iteration, chosen[name], color=color, label=f"d = {d}")
                axes.axhline(float(found), color=color, ls="--", lw=1)
        panels[0][j].set_title(f"{100 * share:g} % zeros in ū")
        panels[1][j].set(yscale="log", xlabel="step of Adam")
        panels[1][j].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0][0].set_ylabel("mean θ(ū, w*)  [rad]")
    panels[1][0].set_ylabel("a")
    handles, labels = panels[0][0].get_legend_handles_labels()
    handles.append(Line2D([], [], color="0.3", ls="--", lw=1))
    figure.legend(handles, [*labels, "found by the grid"], loc="outside upper center", ncols=len(handles))
    return figure
