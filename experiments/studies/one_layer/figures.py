"""Figures of a sweep: functions from data to matplotlib Figures, without global state."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, Literal

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ...papers import arxiv_1812_05719 as paper
from ...papers import frontiers_2020 as paper_rvscgd
from ...penalties import registry
from ...reports import names as naming
from ...reports.names import family
from ...reports.style import STYLE, new_figure
from .paper_comparison import in_paper
from .summary import CELL

LABELS = {
    "theta_w": "θ(w̄, w*)  [rad]",
    "theta_u": "θ(ū, w*)  [rad]",
    "zeros": "zeros in ū",
    "steps": "steps to the limit",
    **naming.AXES,
}
CLOUD = 500
"""Seeds drawn in a cloud of points."""


def sweep_figures(lanes: xr.Dataset) -> dict[str, Figure]:
    """Returns the figures that the axes of the sweep allow, by name."""
    base = base_setting(lanes)

    def along(*axes: str) -> xr.Dataset:
        part = lanes.isel({dim: place for dim, place in base.items() if dim not in axes})
        return part.where(part.status == 0)

    with matplotlib.rc_context(STYLE):
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


@dataclasses.dataclass(frozen=True)
class Look:
    """How one entry of the penalty axis is drawn."""

    name: str
    color: Any
    marker: str


def looks(lanes: xr.Dataset) -> list[Look]:
    """Returns a look for each penalty; those of one family share hue and marker and grow paler."""
    families = [family(label) for label in lanes.penalty.values]
    found = []
    for i, (kind, name) in enumerate(zip(families, naming.entry_names(lanes), strict=True)):
        pale = 0.7 * families[:i].count(kind) / families.count(kind)
        color = np.array(to_rgb(registry.look(kind).color)) * (1 - pale) + pale
        found.append(Look(name, tuple(color), registry.look(kind).marker))
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
    chosen = _spread(lanes.sizes["d"], 3)
    figure, panels = new_figure(3.4 * len(chosen) + 0.8, 4.2, ncols=len(chosen), sharey=True, squeeze=False)
    shown = lanes.isel(seed=slice(CLOUD))
    shift = np.random.default_rng(0).uniform(-0.5, 0.5, shown.sizes["seed"])
    for j, axes in zip(chosen, panels[0], strict=True):
        d = lanes.d.values[j]
        for i, look in enumerate(looks(lanes)):
            # Zeros are whole numbers: spread within their unit, so that the seeds can be seen.
            x, y = shown.zeros.isel(penalty=i, d=j) + shift, shown.theta_u.isel(penalty=i, d=j)
            axes.scatter(100 * x / d, y, s=7, color=look.color, alpha=0.25, lw=0, rasterized=True)
        for i, look in enumerate(looks(lanes)):
            mean = lanes.isel(penalty=i, d=j).mean("seed")
            axes.plot(100 * mean.zeros / d, mean.theta_u, ls="", mec="white", ms=12, zorder=3, **_style(look))
            zeros, theta = printed(lanes, i, "zeros")[j], printed(lanes, i, "theta_u")[j]
            axes.plot(100 * zeros / d, theta, **_paper_style(look), zorder=4)
        axes.set(xlim=(-7, 102), xlabel="zeros in ū  [%]", title=f"d = {d}")
        _log_axis(axes, "y")
    panels[0][0].set_ylabel(LABELS["theta_u"])
    _legend(figure, lanes)
    return figure


def against(lanes: xr.Dataset, axis: str) -> Figure:
    """Returns both angles and the zeros over one axis of the grid: medians with 5 to 95 % of the seeds.

    Args:
      lanes: dimensions penalty, ``axis`` and seed.
      axis: d, k, lam, beta or learning_rate.
    """
    metrics = ["theta_w", "theta_u", "zeros"] + ["steps"] * (axis != "d")
    figure, panels = new_figure(3.3 * len(metrics), 4.0, ncols=len(metrics))
    x = lanes[axis].values
    for metric, axes in zip(metrics, panels, strict=True):
        for i, look in enumerate(looks(lanes)):
            values = lanes[metric].isel(penalty=i).transpose(axis, "seed").values
            low, middle, high = _percentiles(values, 5, 50, 95)
            axes.fill_between(x, low, high, color=look.color, alpha=0.2, lw=0)
            axes.plot(x, middle, mec="white", ms=8, **_style(look))
            if axis == "d":
                axes.plot(x, printed(lanes, i, metric), **_paper_style(look))
        axes.set(xlabel=LABELS[axis], title=LABELS[metric])
        if metric != "zeros":
            _log_axis(axes, "y")
        if axis != "d" and np.all(x > 0):
            axes.set_xscale("log")
        axes.set_xticks(x, [f"{value:g}" for value in x])
        axes.minorticks_off()
    _legend(figure, lanes, paper_too=axis == "d")
    return figure


def distributions(lanes: xr.Dataset) -> Figure:
    """Returns the cumulative distribution of θ(ū,w*) over seeds, for up to five d.

    Args:
      lanes: dimensions penalty, d and seed.
    """
    chosen = _spread(lanes.sizes["d"], 5)
    figure, panels = new_figure(8.0, 1.0 + 1.3 * len(chosen), nrows=len(chosen), sharex=True, squeeze=False)
    for j, axes in zip(chosen, panels[:, 0], strict=True):
        for i, look in enumerate(looks(lanes)):
            values = lanes.theta_u.isel(penalty=i, d=j).values
            if np.isfinite(values).any():
                axes.ecdf(values[np.isfinite(values)], color=look.color)
            axes.plot(printed(lanes, i, "theta_u")[j], 0.5, **_paper_style(look))
        axes.set(ylabel=f"d = {lanes.d.values[j]}", yticks=[0, 0.5, 1])
    _log_axis(axes, "x")
    # Long tails would squeeze the rest.
    low = np.nanmin(_percentiles(lanes.theta_u.transpose(..., "seed").values, 0.3), initial=np.inf)
    if 0 < low < np.inf:
        axes.set_xlim(left=0.9 * low)
    axes.set_xlabel(LABELS["theta_u"])
    figure.supylabel("share of the seeds below")
    _legend(figure, lanes)
    return figure


def _is_relu(lanes: xr.Dataset) -> bool:
    return lanes.attrs.get("activation", "relu") == "relu"


def _style(look: Look) -> dict[str, Any]:
    return {"color": look.color, "marker": look.marker, "label": look.name}


def _paper_style(look: Look) -> dict[str, Any]:
    return {"ls": "", "marker": look.marker, "mfc": "white", "mec": look.color, "mew": 1.8, "ms": 8}


def _legend(figure: Figure, lanes: xr.Dataset, paper_too: bool = True) -> None:
    entries = [Line2D([], [], ms=9, **_style(look)) for look in looks(lanes)]
    if paper_too and any(np.isfinite(printed(lanes, i, "theta_u")).any() for i in range(lanes.sizes["penalty"])):
        hollow: dict[str, Any] = {"mfc": "white", "mec": "0.3", "mew": 1.8, "ms": 7}
        entries.append(Line2D([], [], ls="", marker="D", label="printed in the paper", **hollow))
    figure.legend(handles=entries, loc="outside upper center", ncols=min(len(entries), 6))


def _log_axis(axes: Axes, which: Literal["x", "y"]) -> None:
    if not np.isfinite(getattr(axes.dataLim, f"minpos{which}")):
        return  # nothing positive to show
    axes.set(**{f"{which}scale": "log"})
    axis: Axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _percentiles(values: np.ndarray, *percents: float) -> np.ndarray:
    """Returns the percentiles over the last axis of what is no NaN; NaN where all is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.nanpercentile(values, percents, axis=-1)


def _spread(length: int, most: int) -> list[int]:
    """Returns at most ``most`` places in range(length), evenly spread, the ends among them."""
    return sorted({round(x) for x in np.linspace(0, length - 1, min(most, length))})
