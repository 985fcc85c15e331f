"""What a sweep says, in tables: the sections of ``report.md`` and of the terminal."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from experiments import compare, paper
from experiments.document import Picture, Section, Table
from experiments.naming import AXES, PENALTIES, ROWS, entry_names, family
from experiments.summary import CELL, ENDINGS
from experiments.verdict import agreement, no_limits, smallest_loss

HOW = {"out", "quick", "overwrite", "quiet", "json", "dry_run", "coordinator", "processes", "process"}
"""Flags that say how to run, not what."""

MOST_SETTINGS = 24
"""Settings with tables of their own in the report; the rest stand in summary.csv alone."""


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
    sections = [Section("What was run", [setting_table(run, "1/(β + 4)")], on_terminal=False)]
    if cells is not None:
        sections += [paper_tables(cells), agreement(cells), no_limits(cells), smallest_loss(cells)]
    sections += [*further_tables(summary, cells), convergence(summary, run), time_taken(run)]
    return [*sections, Section("Figures", [Picture(f"{name}.png", _caption(name)) for name in figures], False)]


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
        title = f"Table {number}: {PENALTIES[penalty]}" + ", a = 1" * (penalty == "tl1")
        tables.append(Table(["", "", *(f"d = {d}" for d in cells.d.values)], rows, title, labels=2))
    count = int(cells.theta_u.sel(statistic="count").min())
    note = (
        f"k = 2, λ = 1e-4, β = 4e-3. Ours: mean ± standard error over {count:,} converged seeds a cell. "
        "✗: the printed value lies outside the range of our draws. "
        "†: the printed value cannot be that of a limit, by the paper's own relations."
    )
    return Section("Tables 1 to 3 of the paper", [note, *tables])


def further_tables(summary: xr.Dataset, cells: xr.Dataset | None) -> list[Section]:
    """Returns the tables of all that is not at the paper's setting (``cells``), without a paper column."""
    axes = CELL[2:]
    settings = list(np.ndindex(*(summary.sizes[dim] for dim in axes)))
    blocks: list[str | Table] = []
    for places in settings[:MOST_SETTINGS]:
        here = summary.isel(dict(zip(axes, places, strict=True)))
        at_paper = cells is not None and all(here[dim].equals(cells[dim]) for dim in ("d", *axes))
        for i, entry in enumerate(entry_names(summary)):
            if at_paper and compare.in_paper(summary.isel(penalty=i)):
                continue
            rows = [[name, *mean_cells(here[metric].isel(penalty=i), metric)] for metric, name in ROWS.items()]
            blocks.append(Table(["", *(f"d = {d}" for d in summary.d.values)], rows, f"{entry}; {_setting(here)}"))
    if len(settings) > MOST_SETTINGS:
        blocks.append(f"summary.csv has these and {len(settings) - MOST_SETTINGS} more settings.")
    title = "Further settings" if cells is not None else "Tables"
    return [Section(title, blocks, on_terminal=cells is None)] if blocks else []


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


def time_taken(run: dict[str, Any]) -> Section:
    """Returns where the time went."""
    seconds = run["seconds"]
    steps = run["steps"]
    rows = [[name, f"{value:.1f} s"] for name, value in seconds.items()]
    rows += [
        ["lanes per second, without compilation", f"{run['lanes_per_second']:,.0f}"],
        ["lane-steps run over needed", f"{steps['executed']:,} / {steps['needed']:,} = {steps['waste']:.2f}"],
        ["peak memory", f"{run['peak_memory_bytes'] / 1e9:.2f} GB"],
    ]
    return Section("Time", [Table(["", f"{', '.join(sorted(set(run['devices'])))}"], rows)])


def setting_table(run: dict[str, Any], largest: str) -> Table:
    """Returns what was run, from the record's ``config.json``; ``largest`` is the theorem's learning rate in words."""

    def text(value: Any) -> str:
        return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

    config = {name: value for name, value in run["config"].items() if name not in HOW}
    if config["learning_rate"] is None:
        config["learning_rate"] = f"the largest that the theorem allows, {largest}"
    rows = [[name.replace("_", " "), text(value)] for name, value in config.items()]
    commit = run["commit"]
    rows.append(["lanes", f"{run['lanes']:,}"])
    rows.append(["commit", "none" if commit is None else commit["hash"] + ", with changes" * commit["dirty"]])
    rows += [[name, text(version)] for name, version in run["versions"].items()]
    return Table(["", ""], rows, labels=2)


def mean_cells(ours: xr.DataArray, metric: str, axis: str = "d") -> list[str]:
    """Returns "mean ± standard error" at each place of an axis."""
    cells = []
    for place in range(ours.sizes[axis]):
        mean, sem = (float(ours.isel({axis: place}).sel(statistic=s)) for s in ("mean", "sem"))
        error = "" if np.isnan(sem) else f" ± {sem:.1e}" if metric != "zeros" else f" ± {sem:.2g}"
        cells.append("–" if np.isnan(mean) else (f"{mean:.3e}" if metric != "zeros" else f"{mean:.2f}") + error)
    return cells


def _setting(cells: xr.Dataset) -> str:
    rate = float(cells.learning_rate)
    parts = [f"k = {int(cells.k)}", f"λ = {float(cells.lam):g}", f"β = {float(cells.beta):g}"]
    parts.append(f"η = {rate:g}" if np.isfinite(rate) else f"η = {float(cells.eta):.4g}, the largest allowed")
    return ", ".join(parts) + ", not normalised" * (not bool(cells.normalize))


def _caption(name: str) -> str:
    return {
        "tradeoff": "Accuracy against sparsity at the limit. Small points: seeds; large: their mean; hollow: paper.",
        "distributions": "Distribution of θ(ū,w*) over the seeds. Hollow, at half height: the paper.",
        "against_d": "Medians and 5 to 95 % of the seeds over the dimension. Hollow: the paper.",
    }.get(name, f"Medians and 5 to 95 % of the seeds over {AXES.get(name.removeprefix('against_'), name)}.")
