"""What tuning at a required sparsity found, in words and tables."""

from __future__ import annotations

from typing import Any

import pandas as pd
import xarray as xr

from ...penalties.registry import label
from ...reports.document import Picture, Section, Table
from .summary import WIDTH, differences, reference, tuned

TUNERS = {"start": "β = 4e-3, a = 1", "gradient": "gradient", "grid": "grid"}


def sections(results: xr.Dataset, table: pd.DataFrame, pictures: list[str]) -> list[Section]:
    """Returns the report."""
    found = [Section("Is a tuned Tℓ1 better than both ℓ0 and ℓ1?", _answer(results))] if _all_three(results) else []
    angle_tables, choices = [], []
    zeros: Any  # the stubs of pandas leave keys of groups open
    sparsity: Any
    for (zeros, sparsity), part in table.groupby(["truth_zeros", "sparsity"]):
        title = f"{100 * sparsity:g} % zeros in ū, {100 * zeros:g} % in w*"
        angle_tables.append(_angles(part, reference(results), f"θ(ū,w*), {title}"))
        choices.append(_chosen(part, title))
    seeds = results.sizes["seed"]
    how = (
        f"Mean ± half a 95 % interval over {seeds:,} held-out seeds, the same for all. The first row of a penalty is "
        "not tuned but for λ, which meets the required share as in the others. Least possible: the angle between w* "
        "and its own largest components, as many as ū has (here of tuned ℓ0, or of the first penalty). "
        f"Converged: {int(results.converged.sum()):,} of {results.converged.size:,} held-out runs."
    )
    cost = (
        "One solve runs all training seeds to their limits; the grid has at most as many as the descent. With its "
        f"gradient a solve of the descent took {_step_cost(table):.1f} times the time of one of the grid."
    )
    captions = {
        "angles": "Mean angle on held-out seeds: tuned (filled), at the paper's β, a (hollow), least possible (line).",
        "paths": "Descent of Tℓ1 on the training seeds, at the first share of zeros in w*; dashed what the grid found.",
    }
    shown = [Picture(f"{name}.png", captions[name]) for name in pictures]
    return [
        *found,
        Section("Angles", [how, *angle_tables]),
        Section("What was chosen", [cost, *choices], on_terminal=False),
        Section("Figures", shown, on_terminal=False),
    ]


def _all_three(results: xr.Dataset) -> bool:
    return set(results.penalty.values) >= {"l0", "l1", "tl1"}


def _answer(results: xr.Dataset) -> list[str | Table]:
    gaps = differences(results)

    def count(other: str, quantity: str, sign: int) -> int:
        part = gaps[(gaps.other == other) & (gaps.quantity == quantity)]
        return int((sign * part["mean"] > part.half).sum())

    cells = int(((gaps.other == "l0") & (gaps.quantity == "theta")).sum())
    best = tuned(results)
    never = int(((best.theta - best.best).sel(penalty="tl1") < -1e-5).sum())
    exact = float((best.theta - best.best).sel(penalty="l0").mean())
    verdict = (
        f"Against ℓ1: of {cells} cells the mean angle of tuned Tℓ1 is smaller in {count('l1', 'theta', -1)}, beyond "
        f"the 95 % interval of the paired difference, and larger in {count('l1', 'theta', 1)}. Against ℓ0: smaller in "
        f"{count('l0', 'theta', -1)}, larger in {count('l0', 'theta', 1)}. With the angle's excess over the least "
        f"possible at the same number of zeros, seed by seed: smaller than that of ℓ0 in {count('l0', 'excess', -1)}, "
        f"larger in {count('l0', 'excess', 1)}. The mean angle itself also moves with the share of zeros, which "
        "differs a little on seeds that were not tuned on."
    )
    why = (
        "Why: at a limit of ℓ0 no penalty acts on the support of ū, so ū is a multiple of w* there for every λ and β, "
        "and no vector with that support is nearer to w* in angle. ℓ0 can lose by its choice of the support alone. Tℓ1 "
        "also shrinks what it keeps, least as a → 0, where it becomes ℓ0. Runs in which Tℓ1 beats the least possible "
        f"angle: {never} of {best.theta.sel(penalty='tl1').size:,}; mean excess of ℓ0: {exact:.1e} rad. The paper's "
        "order, ℓ1 nearest to w*, is that at equal λ and β, where ℓ1 has the fewest zeros."
    )
    rows = []
    zeros: Any
    sparsity: Any
    for (zeros, sparsity, d), part in gaps.groupby(["truth_zeros", "sparsity", "d"]):
        row = [f"{100 * zeros:g} %", f"{100 * sparsity:g} %", f"{d}"]
        for other in ("l1", "l0"):
            for quantity in ("theta", "excess"):
                one = part[(part.other == other) & (part.quantity == quantity)].iloc[0]
                row.append(f"{one['mean']:+.5f} ± {one.half:.5f}")
        last = part[(part.other == "l0") & (part.quantity == "share")].iloc[0]
        row.append(f"{100 * last['mean']:+.2f} ± {100 * last.half:.2f}")
        rows.append(row)
    columns = ["zeros in w*", "in ū", "d", "Tℓ1 − ℓ1: θ", "excess", "Tℓ1 − ℓ0: θ", "excess", "zeros [%]"]
    return [verdict, why, Table(columns, rows, "Paired differences of tuned penalties", labels=3)]


def _angles(part: pd.DataFrame, shown: str, title: str) -> Table:
    sizes = sorted(part.d.unique())
    rows = []
    penalty: Any
    tuner: Any
    for (penalty, tuner), group in part.groupby(["penalty", "tuner"], sort=False):
        by_d = group.set_index("d")
        cells = [f"{by_d.theta[d]:.4f} ± {WIDTH * by_d.theta_sem[d]:.4f}" for d in sizes]
        rows.append([label(penalty), TUNERS[tuner], *cells])
    least = part[(part.tuner == "gradient") & (part.penalty == shown)].set_index("d")
    rows.append(["least possible", "", *(f"{least.best[d]:.4f}" for d in sizes)])
    return Table(["penalty", "tuned by", *(f"d = {d}" for d in sizes)], rows, title, labels=2)


def _chosen(part: pd.DataFrame, title: str) -> Table:
    rows = []
    row: Any
    for row in part.itertuples():
        a = f"{row.a:.3g}" if row.penalty == "tl1" else ""
        numbers = [f"{row.lam:.3g}", f"{row.beta:.3g}", a, f"{100 * row.train_share:.2f}", f"{100 * row.share:.2f}"]
        name = [f"{row.d}", label(row.penalty), TUNERS[row.tuner]]
        rows.append([*name, *numbers, f"{row.excess:.1e}", f"{row.solves}", f"{row.seconds:.1f}"])
    columns = ["d", "penalty", "tuned by", "λ", "β", "a", "zeros [%]", "held out", "excess", "solves", "seconds"]
    return Table(columns, sorted(rows, key=lambda r: int(r[0])), title, labels=3)


def _step_cost(table: pd.DataFrame) -> float:
    per_solve = (table.seconds / table.solves).groupby(table.tuner).sum()
    return float(per_solve["gradient"] / per_solve["grid"])
