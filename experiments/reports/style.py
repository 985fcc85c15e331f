"""How figures look, and how they are written: as pictures, and as data for the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .chart_data import chart
from .html_page import add_figure

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 12,
    "grid.color": "0.9",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "svg.hashsalt": "rvsmjax",
}


def new_figure(width: float, height: float, **grid: Any) -> tuple[Figure, Any]:
    """Returns a figure, in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(**grid)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes NAME.png and NAME.svg, and the figure as data for the page; the same figure gives the same bytes."""
    add_figure(folder, name, chart(figure))
    with matplotlib.rc_context(STYLE):
        figure.savefig(folder / f"{name}.png")
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
