"""Statistics over seeds of every cell of a sweep: what ``summary.csv`` holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from experiments.naming import family

METRICS = [
    *["theta_w", "f_w", "theta_u", "f_u", "f_u_unit", "zeros", "gamma", "dist_w"],
    *["residual", "slack_13", "slack_14", "lagrangian", "steps"],
]

CELL = ["penalty", "d", "k", "lam", "beta", "learning_rate", "normalize"]
"""Dimensions of a sweep other than the seed."""

STATISTICS = ["mean", "std", "sem", "min", "max", "count"]

COLUMNS = [
    *["penalty", "d", "k", "lam", "beta", "a", "learning_rate", "normalize"],
    *["metric", *STATISTICS],
]


def summarize(lanes: xr.Dataset) -> xr.Dataset:
    """Returns the statistics of each metric over the converged lanes of each cell.

    std has n − 1 in the denominator and sem = std/√n; both are NaN for a single lane, whose spread is unknown. Sums are
    taken in float64.

    Args:
      lanes: a sweep, with dimensions ``CELL`` and ``seed``.

    Returns:
      Each of ``METRICS``, with dimensions ``CELL`` and ``statistic``.
    """
    cells = lanes.transpose(*CELL, "seed")
    converged = cells.status.values == 0
    count = converged.sum(-1)
    few = {"divide": "ignore", "invalid": "ignore"}
    result = {}
    for metric in METRICS:
        x = np.where(converged, cells[metric].values, 0).astype(np.float64)
        with np.errstate(**few):
            mean = x.sum(-1) / count
            square = np.where(converged, (x - mean[..., None]) ** 2, 0).sum(-1)
            std = np.sqrt(square / np.where(count > 1, count - 1, np.nan))
            sem = std / np.sqrt(count)
        low = np.where(converged, x, np.inf).min(-1)
        high = np.where(converged, x, -np.inf).max(-1)
        low, high = (np.where(count > 0, bound, np.nan) for bound in (low, high))
        result[metric] = ([*CELL, "statistic"], np.stack([mean, std, sem, low, high, count], -1))
    names = ["a", *CELL]
    coords = {name: lanes.coords[name] for name in names} | {"statistic": STATISTICS}
    return xr.Dataset(result | {"eta": lanes["eta"]}, coords)


def to_frame(summary: xr.Dataset) -> pd.DataFrame:
    """Returns the statistics as a table with ``COLUMNS``, one row per cell and metric.

    ``learning_rate`` is the one really used; ``a`` is NaN where the penalty has none.
    """
    cells = summary[METRICS].to_array("metric").transpose(*CELL, "metric", "statistic")
    index = pd.MultiIndex.from_product([cells[dim].values for dim in [*CELL, "metric"]], names=[*CELL, "metric"])
    frame = pd.DataFrame(cells.values.reshape(-1, len(STATISTICS)), index, STATISTICS).reset_index()
    like = cells.isel(statistic=0, drop=True)
    frame["a"] = summary.a.broadcast_like(like).transpose(*like.dims).values.ravel()
    frame["learning_rate"] = summary.eta.broadcast_like(like).transpose(*like.dims).values.ravel()
    frame["penalty"] = frame["penalty"].map(family)
    frame["count"] = frame["count"].astype(int)
    return frame[COLUMNS]
