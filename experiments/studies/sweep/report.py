"""What a sweep says, in tables: the sections of ``report.md`` and of the terminal."""

from __future__ import annotations

from typing import Any

import xarray as xr

from ...one_layer import distributions as cells_figure
from ...one_layer import paper_comparison as compare
from ...one_layer.summary import ENDINGS
from ...one_layer.tables import further_tables, mean_cells, setting_table, time_taken
from ...papers import arxiv_1812_05719 as paper
from ...penalties import registry
from ...reports.document import Chart, Picture, Section, Table
from ...reports.names import AXES, ROWS, entry_names, family
from .verdict import agreement, no_limits, smallest_loss


def sweep_sections(summary: xr.Dataset, run: dict[str, Any], figures: list[str]) -> list[Section]:
    """Returns the report of a sweep.

    Args:
      summary: its statistics.
      run: the record's ``config.json``.
      figures: names of the figures.
    """
    cells = compare.at_paper_setting(summary)
    if cells is not None and not cells.theta_u.sel(statistic="count").any():
        cells = None
    sections = [Section("What was run", [setting_table(run, "1/(β + 4)")], on_terminal=False, on_page=False)]
    if cells is not None:
        sections += [paper_tables(cells), agreement(cells), no_limits(cells), smallest_loss(cells)]
    sections += [*further_tables(summary, cells), convergence(summary, run), time_taken(run)]
    pictures = [Picture(f"{name}.png", _caption(name)) for name in figures]
    return [*sections, Section("Figures", [*pictures, Chart(cells_figure.NAME, cells_figure.CAPTION)], False)]


def paper_tables(cells: xr.Dataset) -> Section:
    """Returns Tables 1, 2 and 3: our mean ± standard error over the printed value."""
    impossible = compare.impossible_rows(cells).set_index(["penalty", "d"])
    no_limit = impossible.breaks_13 | impossible.breaks_17 | impossible.breaks_17_l0
    tables = []
    for penalty in cells.penalty.values:
        rows = []
        for metric, name in ROWS.items():
            ours = cells[metric].sel(penalty=penalty)
            printed = []
            for d in cells.d.values:
                value = paper.value(penalty, metric, d)
                low, high = (float(ours.sel(d=d, statistic=s)) for s in ("min", "max"))
                mark = " ✗" * (not low <= value <= high)
                if metric not in paper.LIMIT_ROWS and no_limit[penalty, d]:
                    mark = " †"
                printed.append((f"{value:.0f}" if metric == "zeros" else f"{value:.5e}") + mark)
            rows += [[name, "ours", *mean_cells(ours, metric)], ["", "paper", *printed]]
        number = paper.TABLES[penalty][0]
        title = f"Table {number}: {registry.label(penalty)}" + ", a = 1" * (penalty == "tl1")
        tables.append(Table(["", "", *(f"d = {d}" for d in cells.d.values)], rows, title, labels=2))
    count = int(cells.theta_u.sel(statistic="count").min())
    note = (
        f"k = 2, λ = 1e-4, β = 4e-3. Ours: mean ± standard error over {count:,} converged seeds a cell. "
        "✗: the printed value lies outside the range of our draws. "
        "†: the printed value cannot be that of a limit, by the paper's own relations."
    )
    return Section("Tables 1 to 3 of the paper", [note, *tables])


def convergence(summary: xr.Dataset, run: dict[str, Any]) -> Section:
    """Returns how the lanes ended and whether they keep the paper's bounds, by penalty."""
    rows, empty = [], []
    tol = run["config"]["tol"]
    for i, (label, entry) in enumerate(zip(summary.penalty.values, entry_names(summary), strict=True)):
        part = summary.isel(penalty=i)
        ended = [int(part.endings.sel(ending=ending).sum()) for ending in ENDINGS]
        # A states (14) for l1 alone.
        broken_14 = f"{int(part.breaks_14.sum()):,}" if family(label) == "l1" else "–"
        steps = part.steps.sel(statistic="mean") * part.steps.sel(statistic="count")
        mean = f"{float(steps.sum()) / ended[0]:,.0f}" if ended[0] else "–"
        residual = f"{float(part.residual.sel(statistic='max').max()):.1e}" if ended[0] else "–"
        rows.append([entry, *(f"{n:,}" for n in ended), residual, f"{int(part.breaks_13.sum()):,}", broken_14, mean])
        for d in summary.d.values:
            n, of = int(part.empty.sel(d=d).sum()), int(part.endings.sel(d=d, ending="converged").sum())
            if n:
                empty.append(f"{entry} d = {d}: {n:,} of {of:,} ({100 * n / of:.2g} %)")
    columns = ["", "converged", "step cap", "diverged", "residual", "(13)", "(14)", "steps"]
    text = (
        f"Residual: the largest |‖P∇f(w̄)‖ − β‖ū‖ sin γ| of a converged lane, at tol = {tol:g}. (13), (14): lanes that "
        "break the bound by more than tol explains (4k·tol); without normalisation it is not claimed. Steps: the mean."
    )
    none = "ū = 0 (its angle is π/2 by convention): " + ("; ".join(empty) if empty else "in no lane") + "."
    return Section("Convergence", [text, Table(columns, rows), none])


def _caption(name: str) -> str:
    return {
        "tradeoff": "Accuracy against sparsity at the limit. Small points: seeds; large: their mean; hollow: paper.",
        "distributions": "Distribution of θ(ū,w*) over the seeds. Hollow, at half height: the paper.",
        "against_d": "Medians and 5 to 95 % of the seeds over the dimension. Hollow: the paper.",
    }.get(name, f"Medians and 5 to 95 % of the seeds over {AXES.get(name.removeprefix('against_'), name)}.")
