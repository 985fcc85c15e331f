"""Statistics over the seeds of each cell of a sweep, as in ``summary.csv``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from ..reports.names import family

METRICS = [
    *["theta_w", "f_w", "theta_u", "f_u", "f_u_unit", "zeros", "gamma", "dist_w"],
    *["residual", "slack_13", "slack_14", "lagrangian", "steps"],
]

CELL = ["penalty", "d", "k", "lam", "beta", "learning_rate", "normalize"]
"""Dimensions of a sweep other than the seed."""

ENDINGS = ["converged", "step cap", "diverged"]
"""Names of a lane's status."""

STATISTICS = ["mean", "std", "sem", "min", "max", "count"]

COLUMNS = [
    *["penalty", "d", "k", "lam", "beta", "a", "learning_rate", "normalize"],
    *["metric", *STATISTICS],
]


def summarize(lanes: xr.Dataset, places: Sequence[Mapping[str, slice]] = ({},)) -> xr.Dataset:
    """Returns the statistics of each metric over the converged lanes of each cell, and the counts of each status.

    std has n − 1 in the denominator, and sem = std/√n; both are NaN for a single lane. Sums are in float64.

    Args:
      lanes: a sweep with dimensions ``CELL`` and ``seed``, in memory or on disk.
      places: parts that partition the lanes; each is loaded twice, one at a time.

    Returns:
      Each of ``METRICS``, with dimensions ``CELL`` and ``statistic``; over ``CELL`` the numbers of lanes with each
      ``ending``, with violations of bounds (13) and (14) beyond the tolerance, and with ū = 0.
    """
    shape = [lanes.sizes[dim] for dim in CELL]
    total, squares = ({metric: np.zeros(shape) for metric in METRICS} for _ in range(2))
    low, high = ({metric: np.full(shape, bound) for metric in METRICS} for bound in (np.inf, -np.inf))
    endings = np.zeros((*shape, len(ENDINGS)), int)
    events = {name: np.zeros(shape, int) for name in ("breaks_13", "breaks_14", "empty")}
    # At residual tol the angle is off by at most 2k·tol, so ‖w̄ − w*‖ by 4k·tol.
    allowance = 4 * lanes.attrs.get("tol", np.nan) * lanes.k
    for here, cells in _parts(lanes, places):
        ended = cells.status == 0
        converged = ended.values
        endings[here] += np.stack([(cells.status.values == code).sum(-1) for code in range(len(ENDINGS))], -1)
        masks = {
            "breaks_13": (cells.slack_13 < -allowance) & cells.normalize,
            "breaks_14": (cells.slack_14 < -allowance) & cells.normalize,
            "empty": cells.zeros == cells.d,
        }
        for name, event in masks.items():
            events[name][here] += (ended & event).transpose(*CELL, "seed").values.sum(-1)
        for metric in METRICS:
            x = cells[metric].values
            total[metric][here] += np.where(converged, x, 0).astype(np.float64).sum(-1)
            low[metric][here] = np.minimum(low[metric][here], np.where(converged, x, np.inf).min(-1))
            high[metric][here] = np.maximum(high[metric][here], np.where(converged, x, -np.inf).max(-1))
    count = endings[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = {metric: total[metric] / count for metric in METRICS}
        for here, cells in _parts(lanes, places):
            converged = cells.status.values == 0
            for metric in METRICS:
                x = np.where(converged, cells[metric].values, 0).astype(np.float64)
                gap = np.where(converged, x - mean[metric][here][..., None], 0)
                squares[metric][here] += (gap**2).sum(-1)
        result = {}
        for metric in METRICS:
            std = np.sqrt(squares[metric] / np.where(count > 1, count - 1, np.nan))
            bounds = (np.where(count > 0, bound[metric], np.nan) for bound in (low, high))
            values = [mean[metric], std, std / np.sqrt(count), *bounds, count]
            result[metric] = ([*CELL, "statistic"], np.stack(values, -1))
    counts = {name: (CELL, values) for name, values in events.items()} | {"endings": ([*CELL, "ending"], endings)}
    names = ["a", *CELL]
    coords = {name: lanes.coords[name] for name in names} | {"statistic": STATISTICS, "ending": ENDINGS}
    return xr.Dataset(result | counts | {"eta": lanes["eta"]}, coords)


def _parts(lanes: xr.Dataset, places: Sequence[Mapping[str, slice]]) -> Iterator[tuple[tuple[slice, ...], xr.Dataset]]:
    """Yields the slices of each part's cells, and the part in memory."""
    for part in places:
        here = tuple(part.get(dim, slice(None)) for dim in CELL)
        yield here, lanes.isel(part).transpose(*CELL, "seed", ...).load()


def to_frame(summary: xr.Dataset) -> pd.DataFrame:
    """Returns the statistics as a table with ``COLUMNS``, one row per cell and metric.

    ``learning_rate`` is the rate in use; ``a`` is NaN for penalties without it.
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
