"""What the study over d says: tables, a verdict, a figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ...penalties.palette import PALETTE
from ...penalties.registry import PENALTIES
from ...reports.document import Picture, Section, Table
from ...reports.figures import Axis, Figure, Look
from ...reports.names import family
from .simulate import WEAK
from .sphere import MOST, all_below, half_dimension, one_below

THRESHOLDED = Look("w* thresholded, exact", dash="dashed")
"""Of the curves that are computed, not counted."""

FAR = 3
"""Distance in standard errors from which a count contradicts a probability."""


def sections(table: pd.DataFrame, config: Any) -> list[Section]:
    """Returns the report."""
    text = (
        f"RVSM on the one-layer ReLU network, k = {config.k}, λ = {config.lam:g}, β = {config.beta:g}, w on the unit "
        f"sphere, w* and w⁰ uniform on it; {config.seeds:,} random problems for each d, shared by the penalties, "
        f"float64, run to a residual of {config.tol:g}. t: threshold of the penalty at λ/β, which does not depend on "
        "d. d at P = ½: the smallest d at which max|w*ᵢ| ≤ t in at least half of all problems. Lanes that did not "
        "converge are counted with the values they ended with; diverged lanes count as ū ≠ 0 and enter no mean."
    )
    return [
        Section("What was run", [text, _thresholds(table)]),
        Section("ū = 0", [_empty_text(config), *_tables(table, _empty_row, EMPTY)]),
        Section("Zeros and angles", [ANGLES, *_tables(table, _angle_row, COLUMNS)]),
        Section("Verdict", [verdict(table, config)]),
        Section("Figure", [Picture("dimension.png", CAPTION)], False),
    ]


def _thresholds(table: pd.DataFrame) -> Table:
    rows = []
    for label, part in table.groupby("penalty", sort=False):
        half = half_dimension(part.threshold.iloc[0])
        ended = [f"{int(part[name].sum()):,}" for name in ("converged", "cap", "diverged")]
        weak = f"{int(part.reference_not_converged.sum()):,}"
        shown = f"{half:,}" if half else f"> {MOST:,}"
        rows.append([name_of(label), f"{part.threshold.iloc[0]:.4g}", shown, *ended, weak])
    return Table(["", "t", "d at P = ½", "converged", "step cap", "diverged", "reference not converged"], rows)


EMPTY = [
    "d",
    "ū = 0  [%]",
    "P(max|w*ᵢ| ≤ t)  [%]",
    "P at t(1−kβ)  [%]",
    "max|w*ᵢ| ≤ t  [%]",
    "ū = 0, > t",
    "ū ≠ 0, ≤ t",
]


def _empty_text(config: Any) -> str:
    return (
        "Share of lanes with ū = 0, with its binomial standard error, and the exact probability that max|w*ᵢ| ≤ t for "
        "w* uniform on the sphere. The last three columns compare each lane with its own w*: the share of these w* "
        "with max|w*ᵢ| ≤ t, then the numbers of lanes that have only one of the two. Whether max|w*ᵢ| ≤ t is read off "
        f"a second sweep with the same draws and λ and β times {WEAK:g}, in which t is the same and w̄ = w* up to "
        f"about {WEAK * config.k * config.beta:.0e}."
    )


def _empty_row(row: Any) -> list[str]:
    shares = [_percent(share) for share in (row.p_below, row.p_certain, row.below / row.lanes)]
    own = f"{row.empty_above:,}", f"{row.full_below:,}"
    return [f"{row.d:,}", f"{_percent(row.empty_share)} ± {100 * row.empty_sem:.1g}", *shares, *own]


def _percent(share: float) -> str:
    return "< 1e-6" if 0 < share < 1e-8 else f"{100 * share:.4g}"


ANGLES = (
    "Means ± standard errors over the lanes. Zeros: share of the components of ū; P(|w*ᵢ| ≤ t): their expected share "
    "in w* thresholded at t, exact; ū has a little more where it is not 0, because the pull towards ū enlarges the "
    "kept components of w̄ and its length is 1. θ(ū,w*) is π/2 where ū = 0; the last column leaves these lanes out."
)
COLUMNS = ["d", "zeros  [%]", "P(|w*ᵢ| ≤ t)  [%]", "θ(w̄,w*)", "θ(ū,w*)", "θ(ū,w*), ū ≠ 0"]


def _angle_row(row: Any) -> list[str]:
    share, error = 100 * row.zeros_share, 100 * row.zeros_share_sem
    zeros = _pm(share, error, ".2f", ".1g"), f"{100 * row.p_one_below:.2f}"
    angles = [_pm(getattr(row, name), getattr(row, f"{name}_sem")) for name in ("theta_w", "theta_u", "theta_u_full")]
    return [f"{row.d:,}", *zeros, *angles]


def _pm(mean: float, error: float, form: str = ".3e", short: str = ".0e") -> str:
    if not np.isfinite(mean):
        return "–"
    if not np.isfinite(error):
        return f"{mean:{form}}"
    return (
        f"{mean:{form}} ± {error:{short}}" if error > 1e-15 else f"{mean:{form}} ± 0"
    )  # rounding, where all are equal


def _tables(table: pd.DataFrame, row: Any, columns: list[str]) -> list[Table]:
    parts = table.groupby("penalty", sort=False)
    return [Table(columns, [row(one) for one in part.itertuples()], name_of(label)) for label, part in parts]


def name_of(label: object) -> str:
    """Returns how an entry of the penalty axis is shown: "Tℓ1(a=0.5)" for "tl1(a=0.5)"."""
    kind = family(label)
    return str(label).replace(kind, PENALTIES[kind].label, 1) if kind in PENALTIES else str(label)


def verdict(table: pd.DataFrame, config: Any) -> str:
    """Returns where the counts agree with the probability and where not, computed from the table."""
    low, high = (_errors(table, name) for name in ("p_certain", "p_below"))
    inside, under = (low > -FAR) & (high < FAR), high < -FAR
    zero, below, above, full = (int(table[name].sum()) for name in ("all_zero", "below", "empty_above", "full_below"))
    text = (
        f"ū = 0 in {zero:,} of {int(table.lanes.sum()):,} lanes; {above:,} of them have max|w*ᵢ| > t. None is "
        "expected: where ū = 0 the force β(w̄ − ū) has no tangential part, so w̄ = w*"
    )
    text += f" (largest θ(w̄,w*) of these lanes: {table.theta_w_empty_max.max():.0e}). " if zero else ". "
    text += (
        f"Of the {below:,} lanes with max|w*ᵢ| ≤ t, {full:,} end at ū ≠ 0. The pull towards ū enlarges the kept "
        f"components of w̄ by a factor of up to about 1 + kβ = {1 + config.k * config.beta:g}, so where u jumps "
        "at t, as with ℓ0, a component just under t in w* can stay above t in w̄, and there are two limits. To first "
        "order in β this needs max|w*ᵢ| > t(1 − kβ), so the share of ū = 0 lies between P at t(1 − kβ) and P at t. "
        f"Within {FAR} standard errors it does in {int(inside.sum())} of {len(table)} cells, and in "
        f"{int(under.sum())} it is more than {FAR} standard errors under P at t. At the largest d: "
    )
    return text + "; ".join(_reached(part) for _, part in table.groupby("penalty", sort=False)) + "."


def _reached(part: pd.DataFrame) -> str:
    last: Any = part.iloc[int(part.d.to_numpy().argmax())]  # the stubs of pandas leave its fields open
    return (
        f"{name_of(last.penalty)} has ū = 0 in {100 * last.empty_share:.4g} % of the lanes and "
        f"{100 * last.zeros_share:.1f} % zeros at d = {last.d:,}"
    )


def _errors(table: pd.DataFrame, name: str) -> np.ndarray:
    """Returns the share of ū = 0 less the probability, in standard errors; half a lane is the least error."""
    p, lanes = table[name].to_numpy(float), table.lanes.to_numpy(float)
    found: np.ndarray = (table.empty_share.to_numpy(float) - p) / np.maximum(np.sqrt(p * (1 - p) / lanes), 0.5 / lanes)
    return found


CAPTION = (
    "Left: share of lanes with ū = 0, bars two binomial standard errors; dashed, to larger d too: P(max|w*ᵢ| ≤ t). "
    "Right: mean share of zeros in ū; dashed: P(|w*ᵢ| ≤ t)."
)


def figure(table: pd.DataFrame) -> Figure:
    """Returns the shares of lanes with ū = 0 and of zeros over d, beside those of w* thresholded.

    The computed curves of the first panel go on to twice the d at which the last of them reaches one half.
    """
    result = Figure(columns=2, width=330)
    first, last = int(table.d.min()), int(table.d.max())
    far = max([last, *(2 * half for t in table.threshold.unique() if (half := half_dimension(t)))])
    ticks = {int(d): f"{d}" for d in sorted(table.d.unique())} if table.d.nunique() < 10 else None
    left = result.panel("", Axis("dimension d", scale="log"), Axis("lanes with ū = 0  [%]", (-4, 104)))
    right = result.panel("", Axis("dimension d", scale="log", ticks=ticks), Axis("zeros in ū, mean  [%]", (-4, 104)))
    wide, narrow = (np.unique(np.geomspace(first, end, 150).round().astype(int)) for end in (far, last))
    entries = list(table.groupby("penalty", sort=False))
    for number, (label, part) in enumerate(entries):
        t = part.threshold.iloc[0]
        look, size = _look(label, number), 4 + 4.5 * (1 - (number + 1) / len(entries))  # equal shares stay visible
        plain = Look(look.name, look.color)
        left.line(wide, [100 * all_below(int(d), t) for d in wide], plain, THRESHOLDED, width=1.4)
        left.errors(part.d, 100 * part.empty_share, 200 * part.empty_sem, plain)
        left.points(part.d, 100 * part.empty_share, look, size=size)
        right.line(narrow, [100 * one_below(int(d), t) for d in narrow], plain, THRESHOLDED, width=1.4)
        right.points(part.d, 100 * part.zeros_share, look, size=4.5)
    return result


def _look(label: object, number: int) -> Look:
    entry = PENALTIES.get(str(label))
    color, marker = (entry.color, entry.marker) if entry else (PALETTE[number % len(PALETTE)], "diamond")
    return Look(name_of(label), color, marker, line=False)
