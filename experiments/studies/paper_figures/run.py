"""Drawing of the figures and their record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from ...cli.runner import Report, conduct
from ...records.environment import Clock
from ...records.folder import Facts
from ...reports.document import Picture, Section, Table

if TYPE_CHECKING:
    import pandas as pd
from .config import FiguresConfig


def run(config: FiguresConfig, console: Console, clock: Clock) -> Path:
    """Draws the figures and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """

    def work(folder: Path) -> tuple[Facts, Report]:
        with clock.phase("set-up"):
            from ...reports import vega
            from . import data as figure_data
            from . import figures as paper_plots
        with clock.phase("run"):
            angles, descents = figure_data.random_angles(config.key), figure_data.descent(config.key)
            figures = {
                "figure_2": paper_plots.levels(figure_data.level_values()),
                "figure_4": paper_plots.thresholding(figure_data.thresholded()),
                "figure_5": paper_plots.huber(figure_data.huber()),
                "figure_6": paper_plots.angles(angles),
                "figure_7": paper_plots.descent(descents),
            }
        with clock.phase("report"):
            vega.save(figures, folder)
            angles.to_csv(folder / "figure_6.csv", index_label="draw")
            descents.to_csv(folder / "figure_7.csv", index_label="step")
        return {"choices": figure_data.CHOICES}, _sections(angles, descents)

    return conduct("figures", "Figures of the paper", config, console, clock, work)


def _sections(angles: pd.DataFrame, descents: pd.DataFrame) -> list[Section]:
    smallest = int((angles.idxmin(axis=1) == "l1").sum())
    rises = {name: float((np.diff(trace) / trace[:-1]).max()) for name, trace in descents.items()}
    rows = [
        [str(name), f"{angles[name].mean():.4f}", f"{descents[name].iloc[-1]:.4e}", f"{rises[name]:.1e}"]
        for name in angles
    ]
    table = Table(["", "mean γ (Figure 6)", "last L (Figure 7)", "largest rise of L / L"], rows)
    text = (
        f"Figure 6: ℓ1 has the smallest angle in {smallest} of {len(angles)} draws. "
        "Figure 7: a rise of the Lagrangian of about 1e-7 of its value is rounding."
    )
    captions = {
        "figure_2": "Level lines of ℓ1 and of Tℓ1 at three a.",
        "figure_4": "Thresholding at λ = 1/2.",
        "figure_5": "Huber functions: Moreau envelopes at λ = 0.05.",
        "figure_6": "Angle γ between a random unit vector X and its thresholded self, λ/β = 0.05.",
        "figure_7": "Lagrangian along a run, k = 2, λ = 1e-4, β = 4e-3, d = 30.",
    }
    choices = (
        "Not stated in the paper, chosen here: a = 2 and 0.5 in Figure 4, a = 1 in Figures 5 and 6, d = 10 and 100 "
        "draws in Figure 6, one start for all penalties in Figure 7."
    )
    pictures = [Picture(f"{name}.png", f"{name.replace('_', ' ').title()}. {text}") for name, text in captions.items()]
    return [Section("Numbers", [text, table, choices]), Section("Figures", pictures, on_terminal=False)]
