"""What the study of support recovery says: cells, tables, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rvsmjax.penalties import Penalty
from rvsmjax.solve import Status

from ...penalties.palette import INK, PALETTE
from ...penalties.registry import label
from ...reports.document import Block, Picture, Section, Table
from ...reports.figures import Axis, Figure, Look

GROUP = ["activation", "penalty", "k"]
SERIES = [*GROUP, "d", "s"]
QUANTITIES = {
    "exact": ("Share with the exact support  [%]", 100),
    "false_zeros": ("False zeros", 1),
    "false_nonzeros": ("False nonzeros", 1),
    "theta_u": ("θ(ū,w*)  [rad]", 1),
    "zeros": ("Zeros of ū", 1),
}
"""Measures of a cell: what tables call them, and their scale there."""
Z = 1.959964
"""Half the width of a normal 95 % interval, in standard errors."""


def wilson(share: float, of: int, z: float) -> tuple[float, float]:
    """Returns the middle of Wilson's interval of a share, and half its width; z = 1 makes it a standard error."""
    if not of:
        return 0.5, 0.5
    half = z * np.sqrt(share * (1 - share) / of + (z / (2 * of)) ** 2) / (1 + z**2 / of)
    return float((share + z**2 / (2 * of)) / (1 + z**2 / of)), float(half)


def summarize(lanes: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per cell: numbers of lanes, and of the converged ones means with standard errors.

    ``exact_se`` is half the width of Wilson's interval at z = 1, which is not 0 at shares of 0 and 1; ``exact_low`` and
    ``exact_high`` are that at 95 %. ``direct`` is the share of all lanes in which prox(w*, λ/β) has the support of w*.
    """
    rows = []
    group: Any  # the stubs of pandas leave it open
    for group, part in lanes.groupby([*SERIES, "share", "ratio"], sort=False):
        found = part[part.status == Status.CONVERGED]
        count = len(found)
        row = dict(zip([*SERIES, "share", "ratio"], group, strict=True)) | {"lanes": len(part), "converged": count}
        row |= {status.name.lower(): int((part.status == status).sum()) for status in (Status.CAP, Status.DIVERGED)}
        for name in QUANTITIES:
            row[name] = found[name].mean()
            row[f"{name}_se"] = found[name].std() / np.sqrt(count) if count > 1 else np.nan
        row["exact_se"] = wilson(row["exact"], count, 1)[1] if count else np.nan
        middle, half = wilson(row["exact"], count, Z)
        rows.append(row | {"exact_low": middle - half, "exact_high": middle + half, "direct": part.direct.mean()})
    return pd.DataFrame(rows)


def sections(lanes: pd.DataFrame, cells: pd.DataFrame, penalties: Mapping[str, Penalty], config: Any) -> list[Section]:
    """Returns the report."""
    setting = (
        f"{config.seeds:,} random problems per cell: w* with s normal components on a random support, ‖w*‖ = 1, and w⁰ "
        f"uniform on the sphere. Population gradient, β = {config.beta:g}, the largest learning rate of the theorem, "
        f"float64. A lane has converged when the residual is at most {config.tol:g}. Cells with equal d and s share "
        "their problems. ū = prox(w̄, λ/β)."
    )
    pictures = [Picture(f"{name}.png", _caption(d)) for name, d in _names(cells).items()]
    return [
        Section("What was run", [setting], False),
        Section("Recovery by ū and by prox(w*, λ/β)", [*_against_direct(lanes), _unfinished(cells)]),
        Section("Smallest component of w*", _smallest(lanes)),
        Section("Thresholds", _thresholds(cells, penalties), False),
        Section("λ/β up to which half of the supports are recovered", _halves(cells), False),
        Section("Cells", _tables(cells), False),
        Section("Figures", pictures, False),
    ]


def _against_direct(lanes: pd.DataFrame) -> list[Block]:
    rows = []
    group: Any
    for group, part in lanes[lanes.status == Status.CONVERGED].groupby(GROUP, sort=False):
        exact, direct = part.exact.astype(bool), part.direct.astype(bool)
        wrong = (part.false_nonzeros > 0).sum()
        counts = len(part), exact.sum(), direct.sum(), (direct & ~exact).sum(), (exact & ~direct).sum(), wrong
        rows.append([group[0], label(group[1]), f"{group[2]}", *(f"{count:,}" for count in counts)])
    text = (
        "Converged lanes over all d, s and λ/β: those whose ū has the support of w*, those in which prox(w*, λ/β) has "
        "it, those in which only one of them has it, and those in which ū has false nonzeros. On the sphere a "
        "component of w̄ outside of the support that is below the threshold is 0 at the limit, up to the tolerance: "
        "false nonzeros need a threshold as small as that, or components of w̄ that stay above it."
    )
    columns = ["activation", "penalty", "k", "lanes", "ū", "prox(w*)", "prox(w*) only", "ū only", "false nonzeros"]
    return [text, Table(columns, rows, labels=3)]


def _unfinished(cells: pd.DataFrame) -> str:
    open_ = cells[cells.converged < cells.lanes]
    if not len(open_):
        return f"All {cells.lanes.sum():,} lanes converged."
    worst: Any = open_.iloc[int(np.argmin(open_.converged / open_.lanes))]
    return (
        f"{open_.cap.sum():,} of {cells.lanes.sum():,} lanes reached the step cap and {open_.diverged.sum():,} "
        f"diverged, in {len(open_):,} of {len(cells):,} cells; means and shares are of the converged lanes. The fewest "
        f"converged, {worst.converged:,} of {worst.lanes:,}, at {worst.activation}, {label(worst.penalty)}, "
        f"k = {worst.k}, d = {worst.d}, s = {worst.s}, λ/β = {worst.ratio:g}."
    )


def _smallest(lanes: pd.DataFrame) -> list[Block]:
    rows = []
    group: Any
    for group, part in lanes.drop_duplicates(["d", "s", "seed"]).groupby(["d", "s"], sort=False):
        low, middle, high = part.smallest.quantile([0.05, 0.5, 0.95])
        rows.append([f"{group[0]}", f"{group[1]}", f"{middle:.3g}", f"{low:.2g} to {high:.2g}"])
    text = (
        "Hard thresholding of w* itself keeps its support at every threshold below min |w*ᵢ| on the support, and at no "
        "larger one. A threshold at the median is too large for half of the draws even if w* is found exactly."
    )
    return [text, Table(["d", "s", "median of min |w*ᵢ|", "5 to 95 %"], rows, labels=2)]


def _thresholds(cells: pd.DataFrame, penalties: Mapping[str, Penalty]) -> list[Block]:
    rows = []
    for ratio in dict.fromkeys(cells.ratio):
        rows.append([f"{ratio:g}", *(_threshold(penalty, ratio) for penalty in penalties.values())])
    text = "The prox sets a component to 0 if its magnitude is at most the threshold of the penalty at the step λ/β."
    return [text, Table(["λ/β", *map(label, penalties)], rows)]


def _threshold(penalty: Penalty, ratio: float) -> str:
    try:
        return f"{float(penalty.threshold(ratio)):.3g}"
    except NotImplementedError:
        return "–"


def _halves(cells: pd.DataFrame) -> list[Block]:
    names = list(dict.fromkeys(cells.penalty))
    rows = []
    group: Any
    for group, part in cells.groupby(["activation", "k", "d", "s"], sort=False):
        parts = [part[part.penalty == name] for name in names]
        shown = [half(own.ratio, own[name]) for own in parts for name in ("exact", "direct")]
        rows.append([group[0], *map(str, group[1:]), *shown])
    text = (
        "Where the share with the exact support falls below one half for good as λ/β grows, interpolated in log λ/β; "
        "beside it the same of prox(w*, λ/β)."
    )
    columns = ["activation", "k", "d", "s", *(f"{label(name)}, {of}" for name in names for of in ("ū", "prox(w*)"))]
    return [text, Table(columns, rows, labels=4)]


def half(ratios: Sequence[float], shares: Sequence[float]) -> str:
    """Returns the ratio from which on a share is below one half, or what is known of it."""
    x, y = np.asarray(ratios, float), np.asarray(shares, float)
    order = np.argsort(x)
    x, y = x[order], y[order]
    above = np.flatnonzero(y >= 0.5)
    if not len(above):
        return f"< {x[0]:g}"
    last = above[-1]
    if last == len(x) - 1:
        return f"≥ {x[-1]:g}"
    part = (y[last] - 0.5) / (y[last] - y[last + 1])
    return f"{np.exp(np.log(x[last]) + part * np.log(x[last + 1] / x[last])):.2g}"


def _tables(cells: pd.DataFrame) -> list[Block]:
    ratios = list(dict.fromkeys(cells.ratio))
    blocks: list[Block] = [
        "Means of the converged lanes with standard errors; that of a share is half the width of Wilson's interval at "
        "z = 1. A zero ū has the angle π/2."
    ]
    for name, (title, scale) in QUANTITIES.items():
        rows = []
        group: Any
        for group, part in cells.groupby(SERIES, sort=False):
            own = part.set_index("ratio")
            shown = [
                f"{scale * own[name][ratio]:.3g} ± {scale * own[f'{name}_se'][ratio]:.1g}"
                if own.converged[ratio]
                else "–"
                for ratio in ratios
            ]
            rows.append([group[0], label(group[1]), *map(str, group[2:]), *shown])
        columns = ["activation", "penalty", "k", "d", "s", *(f"λ/β = {ratio:g}" for ratio in ratios)]
        blocks.append(Table(columns, rows, title, labels=5))
    return blocks


def _names(cells: pd.DataFrame) -> dict[str, int]:
    return {f"recovery_d{d}": d for d in dict.fromkeys(cells.d)}


def _caption(d: int) -> str:
    return (
        f"Share of lanes in which ū has the support of w* over λ/β, d = {d}, with Wilson's 95 % intervals; dashed: "
        "share of draws in which prox(w*, λ/β) has it."
    )


def figures(cells: pd.DataFrame) -> dict[str, Figure]:
    """Returns a figure for each d, by name."""
    return {name: recovery(cells[cells.d == d]) for name, d in _names(cells).items()}


def recovery(cells: pd.DataFrame) -> Figure:
    """Returns the share of exact recovery over λ/β for one d, a line for each s/d.

    A panel for each activation and k (rows) and penalty (columns).
    """
    names, shares = (list(dict.fromkeys(cells[axis])) for axis in ("penalty", "share"))
    figure = Figure(columns=len(names), width=260, height=200, share="xy")
    group: Any
    for group, row in cells.groupby(["activation", "k"], sort=False):
        for name in names:
            title = f"{label(name)}, {group[0]}, k = {group[1]}"
            tags = {"activation": group[0], "k": f"{group[1]}", "penalty": label(name)}
            panel = figure.panel(title, Axis("λ/β", scale="log"), Axis("exact support  [%]", (-2, 102)), tags)
            for share, color in zip(shares, (PALETTE[i % len(PALETTE)] for i in range(len(shares))), strict=True):
                part = row[(row.penalty == name) & (row.share == share)].sort_values("ratio")
                look = Look(f"s/d = {share:g}", color)
                bars = zip(part.ratio, part.exact_low, part.exact_high, strict=True)
                panel.segments([((x, x), (100 * low, 100 * high)) for x, low, high in bars], look)
                panel.line(part.ratio, 100 * part.exact, Look(look.name, color, "circle"))
            for share in shares:
                part = row[(row.penalty == name) & (row.share == share)].sort_values("ratio")
                panel.line(part.ratio, 100 * part.direct, Look("prox(w*, λ/β)", INK, dash="dashed"), width=1)
    return figure
