"""Tables and figures of trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from ..penalties.palette import PALETTE
from ..reports.document import Table
from ..reports.figures import DASHES, Axis, Figure, Look, Panel
from .run_store import Outcomes, Study

PAPER = Look("printed in the paper", marker="cross", line=False)
PUBLISHED = Look("published by others", marker="diamond", hollow=True, line=False)
LAYERS = "Zeros of u by layer, from the first to the last: mean over seeds, range shaded"
"""Caption of ``layers``."""
MEASURES = ("test_accuracy_u", "test_accuracy_w", "validation_accuracy_u", "validation_accuracy_w", "zeros")


def frame(outcomes: Outcomes) -> pd.DataFrame:
    """Returns a row for each finished run: label, seed, measures, times, settings."""
    rows = []
    for label, runs in outcomes.items():
        for run in runs:
            own = {name: run[name] for name in (*MEASURES, "seconds_per_epoch")}
            settings = run["settings"]
            start = settings.get("start") or {}
            layers = {f"zeros {name}": zeros / size for name, (zeros, size) in run["zeros_by_leaf"].items()}
            flat = {name: value for name, value in settings.items() if name not in ("start", "seed")}
            rows.append(
                {"label": label, "seed": settings.get("seed", 0), **own, **layers, **flat, "start": start.get("method")}
            )
    return pd.DataFrame(rows)


def percent(values: Sequence[float], digits: int = 2) -> str:
    """Returns mean ± standard deviation in percent; the value alone where there is one."""
    if not len(values):
        return "not yet run"
    spread = f" ± {100 * np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.{digits}f}{spread}"


def column(runs: Sequence[dict[str, Any]], name: str) -> list[float]:
    """Returns one measure of each run."""
    return [run[name] for run in runs]


def layer_table(outcomes: Outcomes, parameters: int) -> Table:
    """Returns zeros of u by layer, and over what else one may count.

    Args:
      outcomes: the runs.
      parameters: of the network, biases and all.
    """
    names = list(next(runs[0]["zeros_by_leaf"] for runs in outcomes.values() if runs))
    rows = []
    for label, runs in outcomes.items():
        if runs:
            parts = [share([run["zeros_by_leaf"][name]]) for name in names for run in runs]
            by_name = np.reshape(parts, (len(names), len(runs)))
            convolutions = [share([run["zeros_by_leaf"][name] for name in names if "conv" in name]) for run in runs]
            everything = [overall(run, parameters) for run in runs]
            cells = [percent(values) for values in [column(runs, "zeros"), everything, convolutions, *by_name]]
            rows.append([label, *cells])
    columns = ["zeros in %", "all kernels", "and biases", "convolutions", *(name.split("/")[0] for name in names)]
    return Table(columns, rows, "Zeros of u by what is counted")


def overall(run: dict[str, Any], parameters: int) -> float:
    """Returns the share of zeros over all parameters; those that are no kernels have none."""
    return float(sum(zeros for zeros, _ in run["zeros_by_leaf"].values()) / parameters)


def share(counts: Sequence[Sequence[int]]) -> float:
    """Returns zeros over size of all pairs (zeros, size) together."""
    return float(sum(zeros for zeros, _ in counts) / sum(size for _, size in counts))


def look(place: int, name: str, marker: str = "") -> Look:
    """Returns how the series at a place is drawn: a colour of its own, and a dash where they begin again."""
    return Look(name, PALETTE[place % len(PALETTE)], marker, list(DASHES)[place // len(PALETTE) % 3])


def curves(outcomes: Outcomes, least: float | None = None, part: str = "validation") -> Figure:
    """Returns validation accuracy and zeros of u over the epochs evaluated: means of the seeds, and their range.

    Args:
      outcomes: the runs.
      least: accuracy from which the axis begins.
      part: images that were evaluated on after an epoch.
    """
    figure = Figure(columns=2, width=400, height=300)
    low = None if least is None else 100 * least
    axes = {
        "accuracy_u": Axis(f"{part} accuracy of u  [%]", (low, None)),
        "zeros": Axis("zeros of u  [%]", (-2, 102)),
    }
    for name, y in axes.items():
        panel = figure.panel("", Axis("epoch", whole=True), y)
        for i, (label, runs) in enumerate(outcomes.items()):
            if not runs:
                continue
            values = 100 * np.array([run["curves"][name] for run in runs], float)
            evaluated = ~np.isnan(values).any(0)
            values, epochs = values[:, evaluated], 1 + np.flatnonzero(evaluated)
            _range(panel, epochs, values, look(i, label, "circle" if len(epochs) == 1 else ""))
    return figure


def layers(outcomes: Outcomes) -> Figure:
    """Returns zeros of u by layer, from the first to the last: means of the seeds, and their range."""
    there = {label: runs for label, runs in outcomes.items() if runs and any(run["zeros"] for run in runs)}
    names = list(next((runs[0]["zeros_by_leaf"] for runs in there.values()), {}))
    figure = Figure(width=max(460, 34 * len(names)), height=300)
    ticks = {i: name.removesuffix("/kernel") for i, name in enumerate(names)}
    panel = figure.panel(
        "", Axis("layer", (-0.3, max(len(names), 1) - 0.7), ticks=ticks), Axis("zeros of u  [%]", (-2, 102))
    )
    for i, (label, runs) in enumerate(there.items()):
        shares = 100 * np.array([[share([run["zeros_by_leaf"][name]]) for name in names] for run in runs])
        _range(panel, np.arange(len(names)), shares, look(i, label, "circle"))
    return figure


def _range(panel: Panel, x: np.ndarray, values: np.ndarray, look: Look) -> None:
    """Draws the mean over the rows of values, and their range where there are several."""
    if len(values) > 1:
        panel.band(x, values.min(0), values.max(0), look)
    panel.line(x, values.mean(0), look)


def tradeoff(
    outcomes: Outcomes,
    zeros: Callable[[dict[str, Any]], float],
    method: Callable[[str], str],
    paper: Mapping[str, tuple[float, float]],
    counted: str = "u",
    published: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> Figure:
    """Returns test accuracy of u against zeros: a point a run, the means of one method joined where it has several.

    Args:
      outcomes: the runs.
      zeros: share of zeros of a run.
      method: what a label is an entry of.
      paper: accuracy and zeros, in percent, that a paper has, by name.
      counted: what the zeros are of.
      published: those of others, by source.
    """
    figure = Figure(width=520, height=340)
    panel = figure.panel("", Axis(f"zeros of {counted}  [%]"), Axis("test accuracy of u  [%]"))
    methods = list(dict.fromkeys(map(method, outcomes)))
    means: dict[str, list[tuple[float, float]]] = {}
    for label, runs in outcomes.items():
        if runs:
            points = 100 * np.array([[zeros(run), run["test_accuracy_u"]] for run in runs])
            name = method(label)
            panel.points(*points.T, look(methods.index(name), name, "circle"), size=2.7, opacity=0.35)
            means.setdefault(name, []).append(tuple(points.mean(0)))
    for name, found in means.items():
        panel.line(*np.array(sorted(found)).T, look(methods.index(name), name, "diamond"), width=1.2)
    known = [(name, pair, Look(marker="cross"), PAPER) for name, pair in paper.items()]
    known += [(name, pair, Look(marker="diamond", hollow=True), PUBLISHED) for name, pair in published.items()]
    for i, (name, (accuracy, share_of_zeros), *looks) in enumerate(known):
        panel.points([share_of_zeros], [accuracy], *looks)
        # On the side that has room, and above and below in turns.
        panel.text(share_of_zeros, accuracy, name, share_of_zeros < 80, i % 2 == 0)
    return figure


def finished(study: Study, outcomes: Outcomes) -> str:
    """Returns a sentence on how much of the study is there."""
    wanted, there = (sum(map(len, part.values())) for part in (study, outcomes))
    seconds = [run["seconds_per_epoch"] for runs in outcomes.values() for run in runs if run["seconds_per_epoch"]]
    cost = f" An epoch took {np.median(seconds):.1f} s (median)." if seconds else ""
    rest = "" if there == wanted else " The same command goes on with the others."
    return f"{there} of {wanted} runs are finished.{rest}{cost}"
