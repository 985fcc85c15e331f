"""The report of a seed study: chosen settings, speed, all settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...penalties import registry
from ...reports.document import Picture, Section, Table
from .summary import METRICS, interval

if TYPE_CHECKING:
    from .study import Study

SYMBOLS = {"lam": "λ", "beta": "β", "sparsity": "share", "learning_rate": "η"}


def name_of(penalty: str) -> str:
    """Returns how a penalty is called."""
    return "top-k" if penalty == "top_k" else registry.label(penalty)


def label(row: Any) -> str:
    """Returns the hyperparameters that a setting has, as text."""
    return ", ".join(f"{symbol} {getattr(row, n):g}" for n, symbol in SYMBOLS.items() if np.isfinite(getattr(row, n)))


def sections(summary: pd.DataFrame, study: Study, config: Any) -> list[Section]:
    """Returns the report."""
    setting = (
        f"Network {config.network}, {config.epochs} epochs with batches of {config.batch}, {config.seeds} seeds a "
        f"setting, {len(summary)} settings, {len(study.lanes):,} trainings; {config.precision}. Values are means ± "
        "half of Student's 95 % interval over seeds (first weights and order of the images; the split is one)."
    )
    captions = {
        "tradeoff": "Validation accuracy of u against its zeros, an error bar for each setting, a line for each β; "
        "dashed: no penalty.",
        "learning": "The chosen settings: validation accuracy and zeros of u after each epoch, mean and 95 % band.",
    }
    return [
        Section("What was run", [setting], False),
        _chosen(summary, study, config),
        _speed(study, config),
        _all(summary),
        Section("Figures", [Picture(f"{name}.png", caption) for name, caption in captions.items()], False),
    ]


def _chosen(summary: pd.DataFrame, study: Study, config: Any) -> Section:
    dense = study.lanes[study.lanes.chosen & (study.lanes.penalty == "none")].set_index("seed").test_u
    rows = []
    for penalty in config.penalty:
        part = summary[(summary.penalty == penalty) & summary.chosen]
        if part.empty:
            rows.append([name_of(penalty), "no setting with so many zeros", *["–"] * 5])
            continue
        best = part.iloc[0]
        own = study.lanes[study.lanes.chosen & (study.lanes.penalty == penalty)].set_index("seed").test_u
        paired = _percent(*interval(own - dense), sign="+") if len(dense) and penalty != "none" else "–"
        shown = [_percent(best[m], best[f"{m}_half"]) for m in ("zeros", "accuracy_u", "test_w", "test_u")]
        rows.append([name_of(penalty), label(best), *shown, paired])
    text = (
        f"For each penalty the setting with at least {100 * config.min_sparsity:g} % zeros in u, on average, whose u "
        "is best on validation images. Test images were looked at by these alone, after the choice. Against none: test "
        "u less that of the network without a penalty, seed by seed. All in %."
    )
    columns = ["penalty", "chosen", "zeros", "validation u", "test w", "test u", "against none"]
    return Section("Chosen settings", [text, Table(columns, rows, labels=2)])


def _speed(study: Study, config: Any) -> Section:
    slowest = next(reversed(study.timings.values()))  # one after another
    rows = [
        [way, f"{timing.run:.3f}", f"{slowest.run / timing.run:.2f}", f"{timing.compile:.1f}"]
        for way, timing in study.timings.items()
    ]
    count = min(config.compared, config.seeds)
    text = (
        f"{count} seeds of one setting of {name_of(study.raced)}, timed by turns, the least of {config.rounds}; "
        "compilation apart. One after another: one compiled training of a single seed, called for each seed."
    )
    equal = (
        f"{count} seeds of one setting, in the call for the whole grid and in separate runs: largest difference, over "
        "all and of the median seed. In float32 a ReLU that rounding switches moves weights by more than rounding."
    )
    apart = [
        [name_of(penalty), f"{own.numbers:.1e}", f"{own.median:.1e}", f"{own.shares:.1e}"]
        for penalty, own in study.differences.items()
    ]
    columns = ["penalty", "weights, losses", "median seed", "accuracies, zeros"]
    table = Table(["way", "seconds", "times as fast", "compilation, s"], rows)
    return Section("Speed", [text, table, equal, Table(columns, apart)])


def _all(summary: pd.DataFrame) -> Section:
    rows = [
        [
            name_of(row.penalty),
            label(row),
            *(_percent(row[m], row[f"{m}_half"]) for m in METRICS[:3]),
            f"{row.diverged}",
        ]
        for _, row in summary.iterrows()
    ]
    columns = ["penalty", "setting", "validation w", "validation u", "zeros", "diverged"]
    return Section("All settings", [Table(columns, rows, labels=2)], on_terminal=False)


def _percent(mean: float, half: float, sign: str = "") -> str:
    return f"{100 * mean:{sign}.2f} ± {100 * half:.2f}"
