"""What the study of the binary activation says: the sections of its report."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import xarray as xr

from rvsmjax.sweep import CHECK_EVERY

from ...one_layer import distributions as cells
from ...one_layer.figures import base_setting
from ...one_layer.tables import further_tables, mean_cells, setting_table, time_taken
from ...papers import frontiers_2020 as paper_rvscgd
from ...reports.document import Chart, Picture, Section, Table
from ...reports.names import AXES, ROWS, entry_names
from .simulate import RISE, TOLERANCE, rises, safe_rate

QUANTITIES = {"theta": "θ(w,w*)", "lagrangian": "L(u,w)", "gamma": "θ(w,u)", "residual": "residual"}


def sections(
    lanes: xr.Dataset,
    summary: xr.Dataset,
    descents: xr.Dataset,
    many: list[xr.Dataset],
    run: dict[str, Any],
    figures: list[str],
) -> list[Section]:
    """Returns the report.

    Args:
      lanes: the sweep.
      summary: its statistics.
      descents: the runs of Figure 4.
      many: further runs at its setting, for each penalty of the sweep.
      run: the record's ``config.json``.
      figures: names of the sweep's figures.
    """
    pictures = [Picture(f"{name}.png", _caption(name)) for name in figures]
    tables = [dataclasses.replace(part, on_terminal=False) for part in further_tables(summary, None)]
    return [
        Section("What was run", [setting_table(run, "min{1/(β + k/(2π)), 2√(2π)/k}")], False, on_page=False),
        figure_4(descents),
        decrease(entry_names(lanes), many),
        over_patches(lanes, summary),
        equilibrium(lanes, run),
        *tables,
        time_taken(run),
        Section("Figures", [*pictures, Chart(cells.NAME, cells.CAPTION)], on_terminal=False),
    ]


def figure_4(descents: xr.Dataset) -> Section:
    """Returns the runs of Figure 4 in numbers, and whether they do what Theorem 1 says."""
    runs, last = descents.sizes["run"], descents.step.values[-1]
    ends = descents.isel(step=-1)
    places = [0, *np.searchsorted(descents.step.values, last * np.array([1 / 8, 1 / 4, 1 / 2]))]
    rows = []
    for name, text in QUANTITIES.items():
        at = [f"{float(descents[name].isel(step=i).mean()):.3e}" for i in places]
        rows.append([text, *at, f"{float(ends[name].mean()):.4e} ± {float(ends[name].std()):.1e}"])
    columns = ["mean over the runs", *(f"step {descents.step.values[i]:,}" for i in places), "end ± std"]
    done = descents.converged.values
    taken = f"after {float(descents.steps.values[done].mean()):,.0f} steps on average" if done.any() else "in no run"
    setting = paper_rvscgd.SETTING
    text = (
        f"ℓ0, k = {setting['k']}, d = {setting['d']}, λ = {setting['lam']:g}, β = {setting['beta']:g}, "
        f"η = {paper_rvscgd.LEARNING_RATE:g}, {runs} runs from random w* and starts, cut off at {last:,} steps. "
        f"{int(done.sum())} of {runs} came under a residual of {TOLERANCE:g}, {taken}: a step of this η "
        f"takes the share ηc/2 = {paper_rvscgd.LEARNING_RATE * setting['k'] / (2 * np.pi):.2g} off it."
    )
    picture = Picture("figure_4.png", "Figure 4: angle, Lagrangian and γ over the steps, one line a run.")
    return Section("Figure 4 of the paper", [text, Table(columns, rows), picture])


def decrease(names: list[str], many: list[xr.Dataset]) -> Section:
    """Returns in how many runs the Lagrangian and the angle do not decrease to the end."""
    rows = []
    for name, runs in zip(names, many, strict=True):
        row = [name]
        for metric in ("lagrangian", "theta"):
            rise = rises(runs[metric])
            share, n = float(np.mean(rise > RISE)), len(rise)
            part = float(np.max(rise / runs[metric].isel(step=-1).values))
            row += [f"{100 * share:.1f} ± {100 * np.sqrt(share * (1 - share) / n):.1f} %", f"{100 * part:.2g} %"]
        rows.append([*row, f"{n:,}"])
    text = (
        "The paper says that L(u,w) and θ(w,w*) decrease in every step (Theorem 1, Figure 4). Share of runs at the "
        f"setting of Figure 4 that end more than {RISE:g} above their minimum, with its standard error, and the "
        f"largest rise as a part of the last value; η = 1/(2(c + β)) = {safe_rate():.3g}, with which every step is at "
        "most ½ long, as condition (iii) asks. They fall until θ is under its limit, where kθ/(2π) is steeper than "
        "the coarse gradient, and rise from there; smaller η change that little."
    )
    columns = ["", "L rises", "at most by", "θ rises", "at most by", "runs"]
    return Section("Do the Lagrangian and the angle decrease?", [text, Table(columns, rows)])


def over_patches(lanes: xr.Dataset, summary: xr.Dataset) -> Section:
    """Returns the limits over k, at the other axes' values that are the paper's."""
    place = base_setting(lanes)
    here = summary.isel({dim: i for dim, i in place.items() if dim != "k"})
    blocks: list[str | Table] = [
        f"d = {int(here.d)}, λ = {float(here.lam):g}, β = {float(here.beta):g}: mean ± standard error over "
        f"{lanes.sizes['seed']:,} seeds. k acts through c/β alone: θ(w̄,w*) falls as 1/k, f(w̄) = kθ/(2π) stays, and "
        "ū tends to the thresholded w*. f does not see lengths: f(ū/‖ū‖) is f(ū)."
    ]
    for i, name in enumerate(entry_names(summary)):
        cells = here.isel(penalty=i)
        rows = [
            [text, *mean_cells(cells[metric], metric, "k")] for metric, text in ROWS.items() if metric != "f_u_unit"
        ]
        rows.append(["γ = θ(w̄,ū)", *mean_cells(cells["gamma"], "gamma", "k")])
        blocks.append(Table(["", *(f"k = {k}" for k in summary.k.values)], rows, name))
    return Section("Limits over the number of patches", blocks)


def equilibrium(lanes: xr.Dataset, run: dict[str, Any]) -> Section:
    """Returns how the lanes ended, the equilibrium relation, and bound (13) with either c."""
    # At residual tol the angle is off by at most tol over c/2.
    allowance = 2 * run["config"]["tol"] / (lanes.k / (2 * np.pi))
    rows = []
    for i, name in enumerate(entry_names(lanes)):
        part = lanes.isel(penalty=i)
        ended = [int((part.status == status).sum()) for status in (0, 1, 2)]
        limits = part.where(part.status == 0)
        own = limits.slack_13
        printed = 4 * np.sqrt(2 * np.pi) * limits.beta * np.sin(limits.gamma) / limits.k - limits.dist_w
        broken = [int((room < -allowance).sum()) for room in (own, printed)]
        share = float((limits.dist_w / (own + limits.dist_w)).max())
        worst = f"{float(limits.residual.max()):.1e}" if ended[0] else "–"
        steps = f"{float(limits.steps.mean()):,.0f}" if ended[0] else "–"
        empty = f"{int((limits.zeros == part.d).sum()):,}"
        rows.append(
            [name, *(f"{n:,}" for n in (*ended,)), worst, *(f"{n:,}" for n in broken), f"{share:.2f}", empty, steps]
        )
    columns = ["", "converged", "step cap", "diverged", "residual", "(13)", "(13) printed", "share", "ū = 0", "steps"]
    text = (
        "Residual: the largest |(c/2) sin θ − β‖ū‖ sin γ| of a converged lane, c/2 = k/(2π): eq. 22 at the scale "
        "√(2/π) of eq. 8; the k/(2√(2π)) printed in eq. 22 belongs to scale 1. (13): lanes that break "
        "‖w* − w̄‖ ≤ 4β sin γ/c by more than tol explains, and its printed form 4√(2π)β sin γ/k; share: the most of "
        f"the first bound that a lane uses. Steps: the mean, looked at every {CHECK_EVERY}."
    )
    return Section("Equilibrium and bound (13)", [text, Table(columns, rows)])


def _caption(name: str) -> str:
    return {
        "tradeoff": "Accuracy against sparsity at the limit. Small points: seeds; large: their mean.",
        "distributions": "Distribution of θ(ū,w*) over the seeds.",
    }.get(name, f"Medians and 5 to 95 % of the seeds over {AXES.get(name.removeprefix('against_'), name)}.")
