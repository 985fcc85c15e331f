"""Figures of a sweep."""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr

from ..papers import arxiv_1812_05719 as paper
from ..papers import frontiers_2020 as paper_rvscgd
from ..penalties import registry
from ..reports import names as naming
from ..reports.figures import PRINTED, Axis, Figure, Look, Scale, pale, spread
from ..reports.names import family
from .paper_comparison import in_paper
from .summary import CELL

LABELS = {
    "theta_w": "θ(w̄, w*)  [rad]",
    "theta_u": "θ(ū, w*)  [rad]",
    "zeros": "zeros in ū",
    "steps": "steps to the limit",
    **naming.AXES,
}
CLOUD = 300
"""Seeds drawn in a cloud of points."""


def sweep_figures(lanes: xr.Dataset) -> dict[str, Figure]:
    """Returns the figures that the axes of the sweep allow, by name."""
    base = base_setting(lanes)

    def along(*axes: str) -> xr.Dataset:
        part = lanes.isel({dim: place for dim, place in base.items() if dim not in axes})
        return part.where(part.status == 0)

    figures = {"tradeoff": tradeoff(along("d")), "distributions": distributions(along("d"))}
    for axis in ("d", "k", "lam", "beta", "learning_rate"):
        if lanes.sizes[axis] > 1:
            figures[f"against_{axis}"] = against(along(axis), axis)
    return figures


def base_setting(lanes: xr.Dataset) -> dict[str, int]:
    """Returns for each axis but penalty and seed the place of the paper's value, else the first; for d the middle."""
    base = {"d": lanes.sizes["d"] // 2, "learning_rate": 0}
    for dim, value in (paper if _is_relu(lanes) else paper_rvscgd).SETTING.items():
        if dim in lanes.dims:
            base[dim] = int(np.argmax(np.isclose(lanes[dim].values.astype(float), float(value), rtol=1e-6, atol=0)))
    return base


def looks(lanes: xr.Dataset) -> list[Look]:
    """Returns a look for each penalty; those of one family share hue and marker and grow paler."""
    families = [family(label) for label in lanes.penalty.values]
    found = []
    for i, (kind, name) in enumerate(zip(families, naming.entry_names(lanes), strict=True)):
        own = registry.look(kind)
        share = 0.7 * families[:i].count(kind) / families.count(kind)
        found.append(Look(name, pale(own.color, share), own.marker))
    return found


def printed(lanes: xr.Dataset, entry: int, metric: str) -> np.ndarray:
    """Returns the paper's values of one penalty at each d, NaN where it has none or the setting is another."""
    cell = lanes.isel(penalty=entry)
    setting = {name: float(value) for name, value in paper.SETTING.items() if name in CELL}
    same = _is_relu(lanes) and all(
        np.allclose(cell[name].astype(float), value, rtol=1e-6, atol=0) for name, value in setting.items()
    )
    kind = family(cell.penalty.item())
    return np.array(
        [paper.value(kind, metric, d) if same and in_paper(cell) else np.nan for d in np.atleast_1d(cell.d)]
    )


def tradeoff(lanes: xr.Dataset) -> Figure:
    """Returns accuracy against sparsity: θ(ū,w*) over the share of zeros in ū, a cloud of seeds per penalty.

    Args:
      lanes: dimensions penalty, d and seed; up to three d are shown.
    """
    figure = Figure(columns=3, share="y")
    shown = lanes.isel(seed=slice(CLOUD))
    x, y = Axis("zeros in ū  [%]", (-7, 107)), Axis(LABELS["theta_u"], scale=_log(lanes.theta_u))
    for j in _spread(lanes.sizes["d"], 3):
        d = int(lanes.d.values[j])
        panel = figure.panel(f"d = {d}", x, y)
        for i, look in enumerate(looks(lanes)):
            # Zeros are whole numbers: spread within their unit, so that the seeds can be seen.
            share = spread(100 / d * shown.zeros.isel(penalty=i, d=j), 100 / d, 0, 100)
            panel.points(share, shown.theta_u.isel(penalty=i, d=j), look, size=1.7, opacity=0.35)
        for i, look in enumerate(looks(lanes)):
            mean = lanes.isel(penalty=i, d=j).mean("seed")
            panel.points(100 / d * mean.zeros, mean.theta_u, look, size=7)
            zeros, theta = printed(lanes, i, "zeros")[j], printed(lanes, i, "theta_u")[j]
            panel.points(100 / d * zeros, theta, look, PRINTED, size=5)
        panel.corner("better ↘")
    return figure


def against(lanes: xr.Dataset, axis: str) -> Figure:
    """Returns both angles and the zeros over one axis of the grid: medians with 5 to 95 % of the seeds.

    Args:
      lanes: dimensions penalty, ``axis`` and seed.
      axis: d, k, lam, beta or learning_rate.
    """
    metrics = ["theta_w", "theta_u", "zeros"] + ["steps"] * (axis != "d")
    figure = Figure(columns=len(metrics), width=220)
    places = lanes[axis].values
    log = axis != "d" and bool(np.all(places > 0))
    x = Axis(LABELS[axis], scale="log" if log else "linear", ticks={float(one): f"{one:g}" for one in places})
    for metric in metrics:
        y = Axis(LABELS[metric], scale="linear" if metric == "zeros" else _log(lanes[metric]), whole=metric == "zeros")
        panel = figure.panel("", x, y)
        for i, look in enumerate(looks(lanes)):
            values = lanes[metric].isel(penalty=i).transpose(axis, "seed").values
            low, middle, high = _percentiles(values, 5, 50, 95)
            panel.band(places, low, high, look)
            panel.line(places, middle, look)
            if axis == "d":
                panel.points(places, printed(lanes, i, metric), look, PRINTED, size=5)
    return figure


def distributions(lanes: xr.Dataset) -> Figure:
    """Returns the cumulative distribution of θ(ū,w*) over seeds, for up to five d.

    Args:
      lanes: dimensions penalty, d and seed.
    """
    figure = Figure(width=560, height=100, share="x")
    # Long tails would squeeze the rest.
    low = np.nanmin(_percentiles(lanes.theta_u.transpose(..., "seed").values, 0.3), initial=np.inf)
    x = Axis(LABELS["theta_u"], (0.9 * low if 0 < low < np.inf else None, None), _log(lanes.theta_u))
    y = Axis("seeds below  [%]", (0, 102), ticks={0: "0", 50: "50", 100: "100"})
    for j in _spread(lanes.sizes["d"], 5):
        panel = figure.panel(f"d = {lanes.d.values[j]}", x, y)
        for i, look in enumerate(looks(lanes)):
            values = lanes.theta_u.isel(penalty=i, d=j).values
            panel.ecdf(values[np.isfinite(values)], look)
            panel.points(printed(lanes, i, "theta_u")[j], 50, look, PRINTED, size=5)
    return figure


def _is_relu(lanes: xr.Dataset) -> bool:
    return bool(lanes.attrs.get("activation", "relu") == "relu")


def _log(values: xr.DataArray) -> Scale:
    """Returns the scale of an axis that is logarithmic if there is anything positive to show."""
    return "log" if bool((values > 0).any()) else "linear"


def _percentiles(values: np.ndarray, *percents: float) -> np.ndarray:
    """Returns the percentiles over the last axis of what is no NaN; NaN where all is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.asarray(np.nanpercentile(values, percents, axis=-1))


def _spread(length: int, most: int) -> list[int]:
    """Returns at most ``most`` places in range(length), evenly spread, the ends among them."""
    return sorted({round(x) for x in np.linspace(0, length - 1, min(most, length))})
