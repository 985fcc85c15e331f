"""The distribution over seeds in every cell of a sweep, as a figure of the page: binned to shares, not raw lanes."""

from __future__ import annotations

import dataclasses

import numpy as np
import xarray as xr

from ..reports.figures import Axis, Figure
from ..reports.names import ROWS
from .figures import looks
from .summary import CELL

NAME = "cells"
CAPTION = (
    "Distribution over the seeds in each cell: share of the converged seeds below a value. Choose the quantity and the "
    "setting."
)
QUANTITIES = {"theta_u": f"{ROWS['theta_u']}  [rad]", "theta_w": f"{ROWS['theta_w']}  [rad]"}
QUANTITIES |= {"f_u": ROWS["f_u"], "f_w": ROWS["f_w"], "zeros": ROWS["zeros"], "steps": "steps to the limit"}
SHARES = [0, 1, 2.5, 5, *range(10, 91, 10), 95, 97.5, 99, 100]
MOST = 12
"""Settings of the axes other than d; the rest have their statistics in ``summary.csv``."""


def cells(lanes: xr.Dataset) -> Figure:
    """Returns the figure: a panel for each quantity, setting and d, a line for each penalty.

    Args:
      lanes: a sweep.
    """
    figure = Figure()
    shown = [dataclasses.replace(look, marker="") for look in looks(lanes)]
    rest = [dim for dim in CELL if dim not in ("penalty", "d")]
    converged = lanes.transpose(*rest, "d", "penalty", "seed", ...)
    ended = converged.status.values == 0
    settings = list(np.ndindex(*(lanes.sizes[dim] for dim in rest)))[:MOST]
    y = Axis("seeds below  [%]", (0, 100))
    for metric, label in QUANTITIES.items():
        values = converged[metric].values
        for setting in settings:
            tags = {"Quantity": label.split("  ")[0], "Setting": _text(lanes, dict(zip(rest, setting, strict=True)))}
            row = [
                [_quantiles(values[setting][j, i][ended[setting][j, i]]) for i in range(len(shown))]
                for j in range(lanes.sizes["d"])
            ]
            x = _axis(label, row, log=metric != "zeros")
            for d, found in zip(lanes.d.values, row, strict=True):
                panel = figure.panel(f"d = {d}", x, y, tags)
                for look, quantiles in zip(shown, found, strict=True):
                    if len(quantiles) and (quantiles[0] > 0 or x.scale == "linear"):
                        panel.line(quantiles, SHARES, look)
    return figure


def _quantiles(values: np.ndarray) -> np.ndarray:
    """Returns for each of ``SHARES`` the value at that place among the seeds."""
    places = np.round(np.array(SHARES) / 100 * (len(values) - 1)).astype(int)
    return np.sort(values)[places] if len(values) else values


def _axis(label: str, row: list[list[np.ndarray]], log: bool) -> Axis:
    """Returns an axis that holds all cells of a row, without their longest tails."""
    inner = np.array([(x[2], x[-3]) for cell in row for x in cell if len(x)])
    if not len(inner):
        return Axis(label, (0, 1))
    low, high = float(inner.min()), float(inner.max())
    if log and low > 0:
        return Axis(label, (low / 1.1, high * 1.1), "log")
    room = 0.05 * (high - low) or 0.5
    return Axis(label, (low - room, high + room))


def _text(lanes: xr.Dataset, place: dict[str, int]) -> str:
    """Returns the setting in words: k, and what else the sweep varies."""
    here = lanes.isel(place)
    signs = {"k": "k", "lam": "λ", "beta": "β", "learning_rate": "η"}
    parts = [f"{sign} = {float(here[dim]):g}" for dim, sign in signs.items() if dim == "k" or lanes.sizes[dim] > 1]
    return ", ".join(parts) + ", not normalised" * (not bool(here.normalize))
