"""The report of a study of classification: descents and limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ...penalties.registry import label
from ...reports.document import Section, Table

CELL = ["labels", "normalize", "penalty", "lam", "m"]
MEASURES = ("theta_w", "theta_u", "zeros", "norm", "loss", "accuracy", "residual")
ROUNDING = 1e-12
"""Increases of the Lagrangian up to this are rounding."""


def summarize(lanes: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each cell: seeds, converged and rising lanes, means with standard errors."""
    rows = []
    for values, part in lanes.groupby(CELL, sort=False):
        row = dict(zip(CELL, values, strict=True)) | {"seeds": len(part), "converged": int(part.converged.sum())}
        row |= {"rising": int((part.rise > ROUNDING).sum()), "largest_rise": part.rise.max()}
        for name in MEASURES:
            row |= {name: part[name].mean(), f"{name}_se": part[name].std(ddof=1) / np.sqrt(len(part))}
        rows.append(row)
    return pd.DataFrame(rows)


def sections(cells: pd.DataFrame, config: Any) -> list[Section]:
    """Returns the report."""
    text = (
        f"Logit {config.scale:g}·(L(x; w) − b), b the mean output of w*; d = {config.d}, k = {config.k}, "
        f"samples of m Gaussian inputs, β = {config.beta:g}, learning rate 1/(β + {config.scale**2 / 4:g}); float64. "
        "Random labels are drawn with the probabilities that the network with w* gives; certain ones are the more "
        "probable. On a sample the loss has no derivative where a patch is orthogonal to w: at a minimum there, steps "
        "go back and forth, the Lagrangian rises by little, and the residual stays. A lane has converged at a residual "
        f"of {config.tol:g}, and stops after {config.max_steps:,} steps. "
        "Values are means ± standard errors over seeds."
    )
    return [
        Section("What was run", [text], False),
        Section("Descent", [_descent(cells)]),
        Section("Limits", [_limits(cells)]),
    ]


def _names(row: Any) -> list[str]:
    return [row.labels, "sphere" if row.normalize else "free", label(row.penalty), f"{row.lam:g}", f"{row.m:,}"]


COLUMNS = ["labels", "w", "penalty", "λ", "m"]


def _descent(cells: pd.DataFrame) -> Table:
    rows = []
    for _, row in cells.iterrows():
        shown = f"{row.rising} of {row.seeds}", f"{row.largest_rise:.1e}", f"{row.converged} of {row.seeds}"
        rows.append([*_names(row), *shown, f"{row.residual:.1e} ± {row.residual_se:.0e}"])
    title = f"Lanes whose Lagrangian rises by more than {ROUNDING:g} in some step"
    return Table([*COLUMNS, "rising", "largest rise", "converged", "residual"], rows, title, labels=5)


def _limits(cells: pd.DataFrame) -> Table:
    digits = {"theta_w": 4, "theta_u": 4, "zeros": 2, "norm": 3, "accuracy": 4}
    rows = [[*_names(row), *(_mean(row, name, n) for name, n in digits.items())] for _, row in cells.iterrows()]
    columns = ["θ(w̄,w*)", "θ(ū,w*)", "zeros of ū", "‖w̄‖", "accuracy of w̄"]
    return Table([*COLUMNS, *columns], rows, "Last iterates, converged or not", labels=5)


def _mean(row: Any, name: str, digits: int) -> str:
    return f"{row[name]:.{digits}f} ± {row[f'{name}_se']:.{digits}f}"
