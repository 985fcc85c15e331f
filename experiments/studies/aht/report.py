"""What the runs of adaptive hard thresholding say: rates, tables, a figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ...penalties.palette import PALETTE
from ...reports.document import Picture, Section, Table
from ...reports.figures import Axis, Figure, Look
from .simulate import CAP, ENDS, RECOVERED, STARTS

CELL = ["normalize", "d", "s", "k", "start"]


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Returns Wilson's 95 % confidence interval of a share; (0, 1) where nothing was tried."""
    if not of:
        return 0.0, 1.0
    z, share = 1.959964, hits / of
    middle, spread = share + z**2 / (2 * of), z * np.sqrt(share * (1 - share) / of + (z / (2 * of)) ** 2)
    low, high = (middle - spread) / (1 + z**2 / of), (middle + spread) / (1 + z**2 / of)
    # Rounding would leave the ends of [0, 1] a little open.
    return (0.0 if hits == 0 else float(low)), (1.0 if hits == of else float(high))


def summarize(lanes: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each cell, split by whether lanes meet the condition: counts, rate with interval, steps."""
    rows = []
    for place, part in lanes.groupby([*CELL, "meets"], sort=False):
        found = part[part.end == RECOVERED]
        low, high = wilson(len(found), len(part))
        steps: dict[str, float] = {}
        for name in ("support_steps", "steps"):
            numbers = np.percentile(found[name], [50, 95, 100]) if len(found) else [np.nan] * 3
            steps |= {f"{name}_{at}": number for at, number in zip(("median", "p95", "max"), numbers, strict=True)}
        counts = {"lanes": len(part), "recovered": len(found), "step_cap": int((part.end == CAP).sum())}
        rate = {"rate": len(found) / len(part), "rate_low": low, "rate_high": high}
        rows.append(dict(zip([*CELL, "meets"], place, strict=True)) | counts | rate | steps)
    return pd.DataFrame(rows)


def sections(lanes: pd.DataFrame, cells: pd.DataFrame, config: Any) -> list[Section]:
    """Returns the report."""
    parts = []
    for normalize, part in lanes.groupby("normalize", sort=False):
        how = ", normalised after each step (not the paper's algorithm)" if normalize else ""
        parts += [_rates(part, how), _steps(part, how)]
    caption = (
        "Share of the lanes that meet the condition, and of those with supports apart, whose support is that of w* for "
        "good after so many steps. The starts same and near have it from the first."
    )
    setting = (
        f"η = {config.learning_rate:g}, {config.seeds:,} seeds a cell, d in {list(config.d)}, s in {list(config.s)}, "
        f"k in {list(config.k)}; {config.precision}. A lane has recovered when ‖w − w*‖ ≤ {config.tol:g} and the "
        f"zeros of w are exactly those of w*; it is given up after {config.max_steps:,} steps."
    )
    drawn = [Picture(f"{name}.png", caption) for name in _names(lanes)]
    return [Section("What was run", [setting], False), *parts, Section("Figures", drawn, False)]


def _rates(lanes: pd.DataFrame, how: str) -> Section:
    rows = []
    for start in STARTS:
        part = lanes[lanes.start == start]
        if len(part):
            rows.append([start, f"{len(part):,}", *_rate(part[part.meets]), *_rate(part[~part.meets])])
    rows.append(["all", f"{len(lanes):,}", *_rate(lanes[lanes.meets]), *_rate(lanes[~lanes.meets])])
    columns = ["start", "lanes", "condition holds", "recovered", "rate", "does not hold", "recovered", "rate"]
    text = (
        "Theorem 2: if w⁰ on the support of w* is not zero and at no angle of π from w*, the iteration converges to "
        "w*. Rate: the 95 % interval of the share that recovers (Wilson)."
    )
    return Section(f"Recovery of w* and its support{how}", [text, Table(columns, rows), _broken(lanes), _beyond(lanes)])


def _rate(part: pd.DataFrame) -> list[str]:
    if not len(part):
        return ["–"] * 3
    hits = int((part.end == RECOVERED).sum())
    low, high = wilson(hits, len(part))
    return [f"{len(part):,}", f"{hits:,}", f"{100 * low:.5g} to {100 * high:.5g} %"]


def _broken(lanes: pd.DataFrame) -> str:
    """Returns what became of lanes that meet the condition and did not recover."""
    broken = lanes[lanes.meets & (lanes.end != RECOVERED)]
    if not len(broken):
        return f"No counterexample: all {int(lanes.meets.sum()):,} lanes that meet the condition recovered."
    first = broken.iloc[0]
    ends = ", ".join(f"{int((broken.end == i).sum()):,} {name}" for i, name in enumerate(ENDS) if i != RECOVERED)
    return (
        f"{len(broken):,} lanes meet the condition and did not recover ({ends}). The first: start {first.start}, "
        f"d = {first.d}, s = {first.s}, k = {first.k}, seed {first.seed}; there ‖w − w*‖ = {first.distance:.3g}, "
        f"by the library's chain after as many steps {first.replayed:.3g}."
    )


def _beyond(lanes: pd.DataFrame) -> str:
    """Returns what became of lanes at an angle of π."""
    opposite = lanes[~lanes.meets & (lanes.start != "none")]
    freed = opposite[opposite.end == RECOVERED]
    text = f"At an angle of π {len(opposite) - len(freed):,} of {len(opposite):,} lanes stay off w*."
    if not len(freed):
        return text
    patches = ", ".join(map(str, sorted(set(freed.k))))
    return (
        f"{text} The other {len(freed):,} have k = {patches}: there w shrinks towards 0 along the line through w*, and "
        "rounding turns what is left of it."
    )


def _steps(lanes: pd.DataFrame, how: str) -> Section:
    found = lanes[lanes.end == RECOVERED]
    patches = sorted(set(lanes.k))
    rows = []
    for start in STARTS:
        for s in sorted(set(found.s[found.start == start])):
            cells = []
            for k in patches:
                part = found[(found.start == start) & (found.s == s) & (found.k == k)]
                cells += [f"{part.support_steps.median():,.0f} ({part.support_steps.max():,})"] if len(part) else ["–"]
                cells += [f"{part.steps.median():,.0f} ({part.steps.max():,})"] if len(part) else ["–"]
            rows.append([start, f"{s}", *cells])
    columns = ["start", "s", *(f"{what}, k = {k}" for k in patches for what in ("support", "w*"))]
    text = "Steps of the lanes that recovered, median (largest) over d and seeds: to the support for good, and to w*."
    return Section(f"Steps{how}", [text, Table(columns, rows, labels=2)], on_terminal=False)


def figures(lanes: pd.DataFrame) -> dict[str, Figure]:
    """Returns a figure for each setting of ``normalize``, by name."""
    return {name: support(lanes[lanes.normalize == normalize]) for name, normalize in _names(lanes).items()}


def _names(lanes: pd.DataFrame) -> dict[str, bool]:
    return {"support_normalized" if normalize else "support": normalize for normalize in dict.fromkeys(lanes.normalize)}


def support(lanes: pd.DataFrame) -> Figure:
    """Returns the share of lanes with the right support over the steps, a panel for each k, a line for each start."""
    patches = sorted(set(lanes.k))
    # With equal supports there is nothing to find, and at an angle of π nothing is found.
    shown = [start for start in STARTS if (lanes.support_steps[lanes.start == start] > 0).any() and start != "opposite"]
    figure = Figure(columns=len(patches), height=240, share="y")
    for k in patches:
        largest = lanes.support_steps[(lanes.k == k) & (lanes.end == RECOVERED)].max()
        x = Axis("step", (1, max(2, 1.3 * largest)), "log")
        panel = figure.panel(f"k = {k}", x, Axis("lanes with the support of w*  [%]", (0, 102)))
        for start in shown:
            part = lanes[(lanes.start == start) & (lanes.k == k)]
            if start != "none":
                part = part[part.meets]
            steps = np.where(part.end == RECOVERED, np.maximum(part.support_steps, 1), np.inf)
            panel.ecdf(steps, Look(start, PALETTE[STARTS.index(start)]))
    return figure
