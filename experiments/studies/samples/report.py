"""The report of a study of samples: what was run, fitted powers, angles by sample size, figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ...penalties.registry import label, look
from ...reports.document import Picture, Section, Table
from ...reports.figures import DASHES, Axis, Figure, Look
from .summary import CELL, FITTED

CAPTIONS = {
    "apart": "Angle between the limit on a sample and that of the reference, root mean square over seeds, with "
    "standard errors, over the sample size; a panel for each law of the inputs, a line for each penalty and noise.",
    "excess": "Mean of θ(w̄,w*) over that of the reference, where it is positive; as in the other figure.",
}


def sections(cells: pd.DataFrame, fits: pd.DataFrame, figures: Sequence[str], config: Any) -> list[Section]:
    """Returns the report."""
    text = (
        f"One-layer ReLU network, d = {config.d}, k = {config.k}, λ = {config.lam:g}, β = {config.beta:g}, w on the "
        f"sphere; up to {config.seeds} seeds a cell, fewer of large samples. A seed has the same w* and w⁰ in every "
        "cell, and a sample of its own for each size. The reference is the limit of the population loss for Gaussian "
        f"inputs without overlap, else that of a sample of {config.reference:,} inputs without noise, itself at a "
        "distance of about m to the power of the fit. Values are means ± standard errors over seeds."
    )
    return [
        Section("What was run", [text], False),
        Section("Powers of the sample size", [_powers(fits)]),
        Section("Angles", [_angles(cells), _open(cells)], on_terminal=False),
        Section("Figures", [Picture(f"{name}.png", CAPTIONS[name]) for name in figures], False),
    ]


def _names(row: Any) -> list[str]:
    batch = "whole" if row.batch == 0 else f"{row.batch}"
    return [label(row.penalty), row.law, f"{row.stride}", batch, f"{row.noise:g}"]


COLUMNS = ["penalty", "inputs", "stride", "batch", "noise"]


def _powers(fits: pd.DataFrame) -> Table:
    rows = []
    for _, part in fits.groupby(CELL, sort=False):
        own = part.set_index("quantity")
        shown: list[str] = []
        for name in FITTED:
            fit = own.loc[name]
            shown.append("–" if pd.isna(fit.p) else f"{fit.p:.3f} ± {fit.p_se:.3f} ({fit.points})")
        rows.append([*_names(part.iloc[0]), *shown])
    title = "p in m^(−p), in brackets the number of sample sizes in the fit"
    return Table([*COLUMNS, *FITTED.values()], rows, title, labels=5)


def _angles(cells: pd.DataFrame) -> Table:
    rows = []
    for _, row in cells.iterrows():
        shown = [f"{row[name]:.2e} ± {row[f'{name}_se']:.0e}" for name in ("theta_w", "excess", "apart", "theta_u")]
        zeros = f"{row.zeros:.2f} ± {row.zeros_se:.2f}"
        rows.append([*_names(row), f"{row.m:,}", f"{row.seeds}", *shown, zeros])
    columns = ["θ(w̄,w*)", "over the reference", "between the limits", "θ(ū,w*)", "zeros of ū"]
    return Table([*COLUMNS, "m", "seeds", *columns], rows, "In radians", labels=6)


def _open(cells: pd.DataFrame) -> str:
    lanes, left = int(cells.seeds.sum()), int(cells.open.sum())
    return f"{lanes:,} lanes; of {left} it or its reference has not converged or diverged; they are in the means."


def figures(cells: pd.DataFrame, config: Any) -> dict[str, Figure]:
    """Returns ``FITTED`` over the sample size, of full batches without overlap if there are such."""
    first = cells[(cells.batch == config.batch[0]) & (cells.stride == (config.stride[0] or config.d))]
    result = {}
    for name, text in FITTED.items():
        figure = Figure(columns=2, width=300, height=220, share="xy")
        dashes = {noise: Look(f"noise {noise:g}", dash=list(DASHES)[i]) for i, noise in enumerate(config.noise)}
        for law in config.law:
            panel = figure.panel(law, Axis("sample size m", scale="log"), Axis(f"{text}  [rad]", scale="log"))
            for (penalty, noise), part in first[first.law == law].groupby(["penalty", "noise"], sort=False):
                used = part[part[name] > part[f"{name}_se"]]
                own = look(penalty)
                looks = Look(own.label, own.color, own.marker), dashes[noise]
                panel.line(used.m, used[name], *looks)
                panel.errors(used.m, used[name], used[f"{name}_se"], *looks)
        result[name] = figure
    return result
