"""Tables common to the reports of all grids of one-layer problems."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ..cli.flags import HOW
from ..records.folder import Facts
from ..reports.document import Section, Table
from ..reports.names import ROWS, entry_names
from . import paper_comparison as compare
from .summary import CELL

MOST_SETTINGS = 24
"""Maximum number of settings with a table in the report; ``summary.csv`` has all."""


def further_tables(summary: xr.Dataset, cells: xr.Dataset | None) -> list[Section]:
    """Returns the tables of all settings other than the paper's (``cells``)."""
    axes = CELL[2:]
    settings = list(np.ndindex(*(summary.sizes[dim] for dim in axes)))
    blocks: list[str | Table] = []
    for indices in settings[:MOST_SETTINGS]:
        here = summary.isel(dict(zip(axes, indices, strict=True)))
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


def time_taken(run: Facts) -> Section:
    """Returns times of the phases, speed and memory."""
    seconds = run["seconds"]
    steps = run["steps"]
    rows = [[name, f"{value:.1f} s"] for name, value in seconds.items()]
    rows += [
        ["lanes per second, without compilation", f"{run['lanes_per_second']:,.0f}"],
        ["lane-steps run over needed", f"{steps['executed']:,} / {steps['needed']:,} = {steps['waste']:.2f}"],
        ["peak memory", f"{run['peak_memory_bytes'] / 1e9:.2f} GB"],
    ]
    return Section("Time", [Table(["", f"{', '.join(sorted(set(run['devices'])))}"], rows)], on_page=False)


def setting_table(run: Facts, largest: str) -> Table:
    """Returns the settings in the record's ``config.json``; ``largest``: formula of the theorem's learning rate."""

    def text(value: object) -> str:
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
    """Returns "mean ± standard error" at each index of an axis."""
    cells = []
    for i in range(ours.sizes[axis]):
        mean, sem = (float(ours.isel({axis: i}).sel(statistic=s)) for s in ("mean", "sem"))
        error = "" if np.isnan(sem) else f" ± {sem:.1e}" if metric != "zeros" else f" ± {sem:.2g}"
        cells.append("–" if np.isnan(mean) else (f"{mean:.3e}" if metric != "zeros" else f"{mean:.2f}") + error)
    return cells


def _setting(cells: xr.Dataset) -> str:
    rate = float(cells.learning_rate)
    parts = [f"k = {int(cells.k)}", f"λ = {float(cells.lam):g}", f"β = {float(cells.beta):g}"]
    parts.append(f"η = {rate:g}" if np.isfinite(rate) else f"η = {float(cells.eta):.4g}, the largest allowed")
    return ", ".join(parts) + ", not normalised" * (not bool(cells.normalize))
