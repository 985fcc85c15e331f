"""The tables of the comparison."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from ...reports.document import Section, Table
from .config import BY_HAND, METHODS, METRIC, OTHERS, PUBLISHED, SPLITTINGS, TUNED

CELL = ["network", "optimizer", "sparsity"]
CHOSEN = {"magnitude": "ramp", TUNED: "beta", **dict.fromkeys(OTHERS, "value")}
"""Numbers that validation data chooses, by method."""
PRINTED = {"rigl-published": 1.48}
"""Test errors in % that are published."""


def sections(runs: pd.DataFrame) -> list[Section]:
    """Returns the tables."""
    published = runs[runs.method.isin(PUBLISHED)]
    runs = runs[~runs.method.isin(PUBLISHED)]
    splitting = runs.method.isin([*SPLITTINGS, *BY_HAND])
    weighted = runs.merge(runs.loc[runs.method == METRIC, CELL].drop_duplicates(), on=CELL)
    other = runs.method.isin(OTHERS)
    beside = runs.merge(runs.loc[other, CELL].drop_duplicates(), on=CELL)
    beside = beside[~beside.method.isin([*SPLITTINGS, *BY_HAND])]
    shown = beside[["network", "optimizer", "steps"]].drop_duplicates()
    dense = runs[runs.method == "dense"].merge(shown)
    parts = (
        (_compared, runs[~splitting & ~other & (runs.method != METRIC)]),
        (_beside, pd.concat([dense, beside]) if len(beside) else beside),
        (_weighted, weighted[weighted.method.isin(["sparsify", METRIC])]),
        (_published, published),
        (_reached, runs[splitting]),
    )
    return [make(part) for make, part in parts if len(part)]


def _compared(runs: pd.DataFrame) -> Section:
    runs = chosen(runs)
    text = (
        "Loss on test data in nats, mean ± standard deviation over seeds; all methods have the same steps, learning "
        "rate, initial weights and batches. Magnitude: gradual pruning, the ramp being the best one on validation "
        "data; sparsify: `rv.sparsify(optimizer, sparsity, steps=n)`, nothing chosen; rvsm: `rv.rvsm(rv.L0(), "
        "sparsity=…, beta=β)` before the optimizer, u at the end, with the best β of three on validation data. The "
        "difference is that of sparsify and magnitude, seed by seed over the seeds that both have, whose number the "
        "table gives, with half of Student's 95 % interval: below zero, sparsify is better. Each mean is over all "
        "seeds of its method."
    )
    tables = [_table(name, runs[runs.network == name]) for name in dict.fromkeys(runs.network)]
    return Section("Test loss at equal sparsity", [text, *tables])


def _beside(runs: pd.DataFrame) -> Section:
    """Returns all methods at equal sparsity, a row a method."""
    numbers = "; ".join(f"{name}: {number}" for name, (number, _) in OTHERS.items())
    text = (
        "Test accuracy in % and, in parentheses, test loss, mean ± standard deviation over seeds; all methods have the "
        "same steps, learning rate, initial weights and batches, and at most three values of a number of their own, of "
        f"which validation data chooses one, over the seeds that all values have ({numbers}; magnitude: ramp; rvsm: "
        "β). rvsm-frozen, rvsm-decoupled, top-k, admm, safe and elsa: u is fine-tuned in the last fifth of the steps; "
        "before, as it is then. safe takes two gradients a step. State: its size over that of the parameters' kernels."
    )
    tables = []
    for (network, optimizer), part in chosen(runs).groupby(["network", "optimizer"], sort=False):
        shares = sorted(share for share in part.sparsity.unique() if share)
        rows = []
        for method in (name for name in METHODS if name in set(part.method)):
            own = part[part.method == method]
            cells = [own if method == "dense" else own[own.sparsity == share] for share in shares]
            before = [_percent(cell.before_test_accuracy) if "before_test_accuracy" in cell else "–" for cell in cells]
            size = own.state_bytes / (4 * own["size"]) if "state_bytes" in own else pd.Series(dtype=float)
            rows.append([method, *map(_both, cells), before[-1], _number(size)])
        columns = ["", *(f"{100 * share:g} %" for share in shares), f"before, {100 * shares[-1]:g} %", "state"]
        seeds = part[part.method != "dense"].groupby(["method", "sparsity"]).seed.nunique()
        number = "1 seed" if seeds.max() == 1 else f"{seeds.min()} to {seeds.max()} seeds"
        number = f"{seeds.min()} seeds" if seeds.min() == seeds.max() > 1 else number
        title = f"{network}, {optimizer}, {part.steps.iloc[0]:,} steps, {number}"
        tables.append(Table(columns, rows, title))
    return Section("Methods side by side", [text, *tables])


def _weighted(runs: pd.DataFrame) -> Section:
    """Returns what the metric changes."""
    text = (
        'Test loss of `rv.sparsify(optax.adamw(…), sparsity, steps=n)` with `metric="second_moment"` and without; the '
        "difference as above: below zero, the metric is better."
    )
    rows = []
    for cell in (part for _, part in runs.groupby(CELL, sort=False)):
        network, sparsity = str(cell.network.iloc[0]), float(cell.sparsity.iloc[0])
        parts = [cell[cell.method == name] for name in ("sparsify", METRIC)]
        losses, accuracies = (
            [_spread(part.test_loss) for part in parts],
            [_percent(part.test_accuracy) for part in parts],
        )
        change = _change(parts[1], parts[0])
        rows.append([network, f"{100 * sparsity:g} %", *losses, change, *accuracies, str(cell.seed.nunique())])
    columns = ["network", "zeros", "without", "with", "difference", "accuracy, without", "accuracy, with", "seeds"]
    return Section("Which weights matter", [text, Table(columns, rows, labels=2)])


def _published(runs: pd.DataFrame) -> Section:
    """Returns what is printed, and what comes out here."""
    text = (
        "Test error in %, at the end of the training. RigL (arXiv 1911.11134, Table 2, error at the end, one run): "
        "LeNet-300-100 on MNIST, 200 epochs, 99 and 89 % zeros in the first two layers. Here the batches are drawn "
        "with replacement, and all training images are used, as there."
    )
    rows = []
    for method, own in runs.groupby("method", sort=False):
        error = 100 * (1 - own.test_accuracy)
        zeros, printed = 100 * (own.zeros / own["size"]).mean(), PRINTED[str(method)]
        ours = f"{error.mean():.2f} ± {error.std():.2f}" if len(own) > 1 else f"{error.iloc[0]:.2f}"
        rows.append([str(method), own.network.iloc[0], f"{zeros:.2f}", f"{printed:.2f}", ours, str(len(own))])
    columns = ["", "network", "zeros", "printed", "here", "seeds"]
    return Section("Published settings", [text, Table(columns, rows, labels=2)])


def _reached(runs: pd.DataFrame) -> Section:
    """Returns the zeros that u has at the end, and its accuracy."""
    text = (
        "Zeros of u at the end in % and, in parentheses, test accuracy in %, means over seeds: `rv.rvsm(penalty, "
        "sparsity=…, beta=0.1)` before the optimizer; the sparsity rises over two thirds of the steps, and λ "
        "follows it; with groups the sparsity holds to one group. By hand: `lam=` is a number, "
        "found by bisection over whole trainings, whose number is in parentheses."
    )
    asked = sorted(runs.sparsity.unique())
    tables = []
    for (network, optimizer, steps), part in runs.groupby(["network", "optimizer", "steps"], sort=False):
        rows = [[_label(own), *(_held(own[own.sparsity == x]) for x in asked)] for own in _by_method(part)]
        columns = ["penalty", *(f"asked {100 * x:g}" for x in asked)]
        tables.append(Table(columns, rows, f"{network}, {optimizer}, {steps:,} steps"))
    return Section("The sparsity that was asked for", [text, *tables])


def _by_method(runs: pd.DataFrame) -> list[pd.DataFrame]:
    return [part for _, part in runs.groupby("method", sort=False)]


def _label(runs: pd.DataFrame) -> str:
    """Returns the penalty of a splitting, and the number of trainings that its λ took."""
    kind, penalty = runs.method.iloc[0].split("-", 1)
    return penalty if kind == "rvsm" else f"{penalty}, by hand ({runs.trainings.sum():.0f})"


def _held(cell: pd.DataFrame) -> str:
    """Returns the zeros and the accuracy of a cell, in %."""
    zeros, accuracy = 100 * (cell.zeros / cell["size"]).mean(), 100 * cell.test_accuracy.mean()
    return "–" if cell.empty else f"{zeros:.2f} ({accuracy:.1f})"


def chosen(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns the runs without those whose ramp, β or other number is not the best of their cell on validation data.

    The best is taken over the seeds that all numbers of the cell have.
    """
    parts = [runs[~runs.method.isin(list(CHOSEN))]]
    for method, number in CHOSEN.items():
        own = runs[runs.method == method]
        if len(own):
            of_all = own.assign(validation_loss=own.validation_loss.fillna(np.inf))  # a run that diverged
            numbers, of_seed = (of_all.groupby(by)[number].transform("nunique") for by in (CELL, [*CELL, "seed"]))
            cells = of_all[of_seed == numbers].groupby([*CELL, number], as_index=False).validation_loss.mean()
            parts.append(own.merge(cells.loc[cells.groupby(CELL).validation_loss.idxmin(), [*CELL, number]]))
    return pd.concat(parts, ignore_index=True)


def difference(one: pd.DataFrame, other: pd.DataFrame, metric: str = "test_loss") -> tuple[float, float]:
    """Returns the mean difference of a metric, seed by seed, and half its 95 % interval; NaN without two seeds."""
    pairs = one.set_index("seed")[metric] - other.set_index("seed")[metric]
    pairs = pairs.dropna()
    if len(pairs) < 2:
        return float(pairs.mean()), np.nan
    return float(pairs.mean()), float(stats.t.ppf(0.975, len(pairs) - 1) * pairs.std() / len(pairs) ** 0.5)


def _table(network: str, runs: pd.DataFrame) -> Table:
    rows: list[list[str]] = []
    sparse = runs[runs.method != "dense"]
    for cell in (part for _, part in sparse.groupby(["optimizer", "sparsity"], sort=False)):
        optimizer, sparsity = str(cell.optimizer.iloc[0]), float(cell.sparsity.iloc[0])
        dense = runs[(runs.method == "dense") & (runs.optimizer == optimizer)]
        by = {name: cell[cell.method == name] for name in ("magnitude", "sparsify")}
        shown = ["–" if dense.empty else f"{dense.test_loss.mean():.4f}"]
        shown += [_spread(part.test_loss) for part in by.values()]
        change = _change(by["sparsify"], by["magnitude"])
        tuned = cell[cell.method == TUNED]
        best = f"{_spread(tuned.test_loss)} (β = {tuned.beta.iloc[0]:g})" if len(tuned) else "–"
        accuracy = [_percent(part.test_accuracy) for part in by.values()]
        seeds = len(set(by["magnitude"].seed) & set(by["sparsify"].seed)) or cell.seed.nunique()
        rows.append([optimizer, f"{100 * sparsity:g} %", *shown, change, str(seeds), *accuracy, best])
    columns = ["optimizer", "zeros", "dense", "magnitude", "sparsify", "difference", "seeds"]
    columns += ["accuracy, magnitude", "accuracy, sparsify", "rvsm, β chosen"]
    title = f"{network}, {runs.steps.iloc[0]:,} steps"
    return Table(columns, sorted(rows, key=lambda row: row[0]), title, labels=2)


def _change(one: pd.DataFrame, other: pd.DataFrame) -> str:
    mean, half = difference(one, other) if len(one) and len(other) else (np.nan, np.nan)
    return "–" if np.isnan(mean) else f"{mean:+.4f}" + ("" if np.isnan(half) else f" ± {half:.4f}")


def _spread(values: pd.Series) -> str:
    return (
        "–"
        if values.empty
        else f"{values.mean():.4f} ± {values.std():.4f}"
        if len(values) > 1
        else f"{values.iloc[0]:.4f}"
    )


def _both(cell: pd.DataFrame) -> str:
    """Returns accuracy and loss of a cell, and how many of its runs diverged."""
    if cell.empty:
        return "–"
    ended = cell[cell.test_accuracy.notna()]
    lost = f"; {len(cell) - len(ended)} of {len(cell)} diverged" if len(ended) < len(cell) else ""
    spread = f" ± {100 * ended.test_accuracy.std():.2f}" if len(ended) > 1 else ""
    shown = f"{100 * ended.test_accuracy.mean():.2f}{spread} ({ended.test_loss.mean():.4f})" if len(ended) else "–"
    return shown + lost


def _number(values: pd.Series) -> str:
    values = values.dropna()
    return "–" if values.empty else f"{values.iloc[0]:.1f}"


def _percent(values: pd.Series) -> str:
    values = values.dropna()
    return "–" if values.empty else f"{100 * values.mean():.2f}"
