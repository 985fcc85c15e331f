"""What the runs of RVSM and ADMM say: statistics, tables, the claim, a figure."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from ...penalties.palette import BLUE, RED, YELLOW
from ...penalties.registry import label
from ...reports.document import Picture, Section, Table
from ...reports.figures import Axis, Figure, Look
from .simulate import METHODS

CELL = ["penalty", "normalize", "nonzero", "beta", "lam"]
METRICS = ["zeros", "theta_w", "theta_u", "gap", "norm_u", "loss_u", "steps"]
LOOKS = {"rvsm": (BLUE, "circle"), "admm": (RED, "square"), "modified": (YELLOW, "triangle-up")}
RESTLESS = Look("not all at rest", marker="diamond", hollow=True, line=False)
RESTS = 0.9
"""Share of runs that must rest for a cell to be compared."""


def summarize(lanes: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each cell and method: share that rests, mean and standard deviation of each of ``METRICS``.

    Runs that were given up count with where they were.
    """
    groups = lanes.groupby([*CELL, "method"], sort=False)
    found = groups[METRICS].agg(["mean", "std"])
    found.columns = found.columns.map("_".join)
    return pd.concat(
        [groups.size().rename("runs"), groups.converged.mean().rename("rests"), found], axis=1
    ).reset_index()


def sections(cells: pd.DataFrame, figures: list[str], config: Any) -> list[Section]:
    """Returns the report."""
    setting = (
        f"d = {config.d}, k = {config.k}, {config.seeds} seeds a cell, w⁰ uniform on the sphere, given up after "
        f"{config.max_steps:,} steps over a residual of {config.tol:g}, {config.precision}. β is the weight of "
        "‖w − u‖² in RVSM and ρ of ADMM."
    )
    meaning = (
        "Not normalised, all three split the same problem, min f(w) + λP(w). Normalised, they split it on the sphere: "
        "the exact w-step is the argmin over unit vectors, the gradient step is followed by w/‖w‖, and at rest w = u "
        "is a unit vector, so ADMM cannot shrink and λP only turns it."
    )
    caption = (
        "Angle of u over its share of zeros, λ growing along a line; means over seeds, hollow where runs do not rest."
    )
    return [
        Section("What was run", [setting, meaning], False),
        claim(cells, config.k),
        equal_sparsity(cells),
        *[_table(part, place) for place, part in cells.groupby(["penalty", "normalize", "nonzero"], sort=False)],
        Section("Figures", [Picture(f"{name}.png", caption) for name in figures], False),
    ]


def claim(cells: pd.DataFrame, k: int) -> Section:
    """Returns in how many cells RVSM's u has more zeros than ADMM's, and why."""
    rows = []
    place: Any  # the stubs of pandas leave keys of groups open
    for place, part in cells.groupby(["nonzero", "penalty", "normalize"], sort=False):
        wide = part.pivot(index=["beta", "lam"], columns="method", values=["zeros_mean", "rests", "gap_mean"])
        zeros = wide["zeros_mean"]
        more = int((zeros.rvsm > zeros.admm + 0.01).sum())
        fewer = int((zeros.rvsm < zeros.admm - 0.01).sum())
        rests = wide["rests"]
        rows.append(
            [
                f"{place[0]:g}",
                label(place[1]),
                "yes" if place[2] else "no",
                f"{more} / {len(zeros) - more - fewer} / {fewer}",
                *(f"{100 * zeros[method].mean():.1f}" for method in METHODS),
                *(f"{100 * rests[method].mean():.0f}" for method in METHODS),
                *(f"{wide['gap_mean'][method].median():.1e}" for method in METHODS),
            ]
        )
    columns = ["w* ≠ 0", "", "sphere", "more / equal / fewer"]
    columns += [f"{what}, {name}" for what in ("zeros %", "rests %", "gap") for name in METHODS.values()]
    text = (
        "Section 3.3: RVSM's u is much more sparse than ADMM's. Cells (λ, β) where the mean share of zeros of RVSM is "
        "more than that of exact ADMM, equal within 0.01, fewer; mean share of zeros and of runs that rest over all "
        "cells; median over the cells of the mean gap ‖w − u‖."
    )
    why = (
        "Why: a component of u is zero in RVSM where |w_i| is under the threshold t(λ/β), and there w_i is about "
        "w*_i/(1 + kβ); for ℓ1 where |w*_i| is under about λ/β + kλ. ADMM rests at w = u, stationary for f + λP, "
        "where a component is zero if the pull of f on it, about |w*_i|/k, is under λ: |w*_i| under about kλ. So RVSM "
        f"cuts deeper at the same λ and β, by a factor 1 + 1/(kβ), k = {k}; as β grows the two become one."
    )
    hard = (
        "With ℓ0 a component rests at zero where |w*_i| < k√(2λβ) and off zero where |w*_i| > √(2λ/β); for kβ < 1 what "
        "lies between has no place to rest, and u jumps on and off. Such a run has no limit; its numbers are those of "
        "its last step."
    )
    return Section("Is RVSM's u much more sparse?", [text, Table(columns, rows, labels=3), why, hard])


def equal_sparsity(cells: pd.DataFrame) -> Section:
    """Returns how the angles of u compare where λ is chosen for an equal share of zeros."""
    rows = []
    place: Any  # the stubs of pandas leave keys of groups open
    for place, part in cells.groupby(["nonzero", "penalty", "normalize", "beta"], sort=False):
        curves = {}
        for method in METHODS:
            own = part[(part.method == method) & (part.rests >= RESTS)].sort_values("zeros_mean")
            curves[method] = own.zeros_mean.to_numpy(), own.theta_u_mean.to_numpy()
        zeros, theta = curves["rvsm"]
        floor = 1.0 - place[0]
        inner = (zeros > floor + 0.02) & (zeros < 0.98)
        ratios = []
        for method in ("admm", "modified"):
            x, y = curves[method]
            use = inner & (zeros >= x.min(initial=2)) & (zeros <= x.max(initial=-1))
            if use.any():
                ratios.append(f"{np.exp(np.mean(np.log(np.interp(zeros[use], x, y) / theta[use]))):.2f} ({use.sum()})")
            else:
                ratios.append("–")
        rows.append([f"{place[0]:g}", label(place[1]), "yes" if place[2] else "no", f"{place[3]:g}", *ratios])
    text = (
        "θ(u,w*) of ADMM over that of RVSM at the same share of zeros: mean ratio over the λ of RVSM (number of them), "
        f"ADMM's means interpolated along λ, cells in which {100 * RESTS:.0f} % of the runs rest. Over 1: RVSM is "
        "nearer to w*."
    )
    columns = ["w* ≠ 0", "", "sphere", "β", "exact / RVSM", "modified / RVSM"]
    return Section("At equal share of zeros", [text, Table(columns, rows, labels=4)])


def _table(part: pd.DataFrame, place: tuple[Any, ...]) -> Section:
    penalty, normalize, nonzero = place
    rows = []
    row: Any
    for (beta, lam), own in part.groupby(["beta", "lam"], sort=False):
        for row in own.itertuples():
            values = [
                f"{getattr(row, f'{metric}_mean'):.3g} ± {getattr(row, f'{metric}_std'):.1g}"
                for metric in ("zeros", "theta_w", "theta_u", "gap", "loss_u")
            ]
            rests = f"{100 * row.rests:.0f} %"
            rows.append([f"{beta:g}", f"{lam:g}", METHODS[row.method], *values, rests, f"{row.steps_mean:,.0f}"])
    columns = ["β", "λ", "", "share of zeros", "θ(w,w*)", "θ(u,w*)", "‖w − u‖", "f(u)", "rests", "steps"]
    how = "normalised" if normalize else "not normalised"
    title = f"{label(penalty)}, {how}, {100 * nonzero:g} % of w* not zero: mean ± standard deviation"
    return Section(title, [Table(columns, rows, labels=3)], on_terminal=False)


def figures(cells: pd.DataFrame) -> dict[str, Figure]:
    """Returns a figure for each share of nonzeros in w* and each setting of ``normalize``, by name."""
    found = {}
    for (nonzero, normalize), part in cells.groupby(["nonzero", "normalize"], sort=False):
        kind = "dense" if nonzero == 1 else f"nonzero_{nonzero:g}"
        found[f"{kind}_sphere" if normalize else kind] = tradeoff(part)
    return found


def tradeoff(cells: pd.DataFrame) -> Figure:
    """Returns the angle of u over its share of zeros, λ along each line; rows are penalties, columns β."""
    penalties, betas = (list(dict.fromkeys(cells[name])) for name in ("penalty", "beta"))
    figure = Figure(columns=len(betas), width=220, height=180, share="xy")
    x, y = Axis("zeros in u  [%]", (-4, 104)), Axis("θ(u, w*)  [rad]", scale="log")
    for penalty in penalties:
        for beta in betas:
            panel = figure.panel(f"{label(penalty)}, β = {beta:g}", x, y)
            for method, name in METHODS.items():
                own = cells[(cells.penalty == penalty) & (cells.beta == beta) & (cells.method == method)]
                zeros, theta, look = 100 * own.zeros_mean, own.theta_u_mean, Look(name, *LOOKS[method])
                rests = own.rests >= RESTS
                panel.points(zeros[rests], theta[rests], look)
                panel.line(zeros, theta, dataclasses.replace(look, marker=""))
                panel.points(zeros[~rests], theta[~rests], look, RESTLESS, size=4)
    return figure
