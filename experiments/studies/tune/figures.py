"""Figures of tuning at a required sparsity."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from ...penalties import registry
from ...penalties.palette import PALETTE
from ...reports.figures import Axis, Figure, Look
from .summary import WIDTH, reference, tuned

AT_PAPER = Look("at the paper's β, a", marker="diamond", hollow=True, line=False)
LEAST, GRID = Look("least possible"), Look("found by the grid", dash="dashed")


def tune_figures(results: xr.Dataset, paths: pd.DataFrame) -> dict[str, Figure]:
    """Returns the figures by name."""
    drawn = {"angles": _draw_angles(results)}
    if len(paths) and (paths.penalty == "tl1").any():
        drawn["paths"] = _draw_paths(results, paths[paths.penalty == "tl1"])
    return drawn


def _draw_angles(results: xr.Dataset) -> Figure:
    zeros, shares = results.truth_zeros.values, results.sparsity.values
    figure = Figure(columns=len(shares), width=260, height=200)
    best, start = tuned(results), results.sel(tuner="start")
    place = np.arange(results.sizes["d"])
    x = Axis("dimension d", (-0.5, len(place) - 0.5), ticks={i: f"{d}" for i, d in enumerate(results.d.values)})
    for truth in zeros:
        for share in shares:
            title, here = (
                f"{100 * share:g} % zeros in ū, {100 * truth:g} % in w*",
                {"truth_zeros": truth, "sparsity": share},
            )
            panel = figure.panel(title, x, Axis("θ(ū, w*)  [rad]", (0, None)))
            floor = best.best.sel(here | {"penalty": reference(results)}).mean("seed").values
            for n, kind in enumerate(results.penalty.values):
                own = registry.look(kind)
                look = Look(own.label, own.color, own.marker, line=False)
                at = place + 0.14 * (n - (results.sizes["penalty"] - 1) / 2)
                panel.points(at, start.theta.sel(here | {"penalty": kind}).mean("seed"), look, AT_PAPER, size=6.5)
                theta = best.theta.sel(here | {"penalty": kind})
                half = WIDTH * theta.std("seed", ddof=1) / np.sqrt(theta.sizes["seed"])
                panel.points(at, theta.mean("seed"), look)
                panel.errors(at, theta.mean("seed"), half, look)
            panel.segments([((i - 0.3, i + 0.3), (least, least)) for i, least in enumerate(floor)], LEAST)
    return figure


def _draw_paths(results: xr.Dataset, paths: pd.DataFrame) -> Figure:
    truth, shares = results.truth_zeros.values[0], results.sparsity.values
    figure = Figure(columns=len(shares), width=260, height=200)
    rows = {"theta": ("train_theta", Axis("mean θ(ū, w*)  [rad]")), "a": ("a", Axis("a", scale="log"))}
    for name, (by_grid, y) in rows.items():
        for share in shares:
            panel = figure.panel(f"{100 * share:g} % zeros in ū", Axis("step of Adam", whole=True), y)
            for n, d in enumerate(results.d.values):
                chosen = paths[(paths.d == d) & (paths.sparsity == share) & (paths.truth_zeros == truth)]
                grid = results.sel(penalty="tl1", d=d, sparsity=share, truth_zeros=truth, tuner="grid")
                look = Look(f"d = {d}", PALETTE[n % len(PALETTE)])
                panel.line(chosen.iteration, chosen[name], look)
                if len(chosen):
                    ends = chosen.iteration.min(), chosen.iteration.max()
                    panel.line(ends, [float(grid[by_grid])] * 2, look, GRID, width=1)
    return figure
