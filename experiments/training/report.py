"""Tables and figures of trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..reports.document import Table
from ..reports.style import STYLE, new_figure
from .run_store import Outcomes, Study

PALETTE = ["#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB", "#222222"]
"""Paul Tol's bright scheme, and black."""
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
    return sum(zeros for zeros, _ in run["zeros_by_leaf"].values()) / parameters


def share(counts: Sequence[Sequence[int]]) -> float:
    """Returns zeros over size of all pairs (zeros, size) together."""
    return sum(zeros for zeros, _ in counts) / sum(size for _, size in counts)


@matplotlib.rc_context(STYLE)
def curves(outcomes: Outcomes, least: float | None = None, part: str = "validation") -> Figure:
    """Returns validation accuracy and zeros of u over the epochs evaluated: means of the seeds, and their range.

    Args:
      outcomes: the runs.
      least: accuracy from which the axis begins.
      part: images that were evaluated on after an epoch.
    """
    figure, panels = new_figure(11.0, 4.4, ncols=2)
    for i, (label, runs) in enumerate(outcomes.items()):
        if not runs:
            continue
        color, style = PALETTE[i % len(PALETTE)], ("-", "--", ":")[i // len(PALETTE) % 3]
        for axes, name in zip(panels, ("accuracy_u", "zeros"), strict=True):
            values = 100 * np.array([run["curves"][name] for run in runs], float)
            evaluated = ~np.isnan(values).any(0)
            values, epochs = values[:, evaluated], 1 + np.flatnonzero(evaluated)
            marker = "o" if len(epochs) == 1 else None
            axes.plot(epochs, values.mean(0), color=color, ls=style, marker=marker, label=label, lw=1.5)
            if len(runs) > 1:
                axes.fill_between(epochs, values.min(0), values.max(0), color=color, alpha=0.2, lw=0)
    for axes in panels:
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set(xlabel="epoch", title=f"{part} accuracy of u  [%]")
    if least is not None:
        panels[0].set_ylim(bottom=100 * least)
    panels[1].set(xlabel="epoch", title="zeros of u  [%]", ylim=(-2, 102))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure


@matplotlib.rc_context(STYLE)
def layers(outcomes: Outcomes) -> Figure:
    """Returns zeros of u by layer, from the first to the last: means of the seeds, and their range."""
    there = {label: runs for label, runs in outcomes.items() if runs and any(run["zeros"] for run in runs)}
    names = list(next((runs[0]["zeros_by_leaf"] for runs in there.values()), {}))
    figure, axes = new_figure(max(6.4, 3.0 + 0.36 * len(names)), 4.6)
    place = np.arange(len(names))
    for i, (label, runs) in enumerate(there.items()):
        color, style = PALETTE[i % len(PALETTE)], ("-", "--", ":")[i // len(PALETTE) % 3]
        shares = 100 * np.array([[share([run["zeros_by_leaf"][name]]) for name in names] for run in runs])
        axes.plot(place, shares.mean(0), color=color, ls=style, marker="o", ms=4, lw=1.5, label=label)
        if len(runs) > 1:
            axes.fill_between(place, shares.min(0), shares.max(0), color=color, alpha=0.2, lw=0)
    axes.set_xticks(place, [name.removesuffix("/kernel") for name in names], rotation=45, ha="right")
    axes.set(ylabel="zeros of u  [%]", ylim=(-2, 102))
    if there:
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


@matplotlib.rc_context(STYLE)
def tradeoff(
    outcomes: Outcomes,
    zeros: Callable[[dict[str, Any]], float],
    method: Callable[[str], str],
    paper: Mapping[str, tuple[float, float]],
    counted: str = "u",
) -> Figure:
    """Returns test accuracy of u against zeros: a point a run, the means of one method joined where it has several.

    Args:
      outcomes: the runs.
      zeros: share of zeros of a run.
      method: what a label is an entry of.
      paper: accuracy and zeros, in percent, that a paper has, by name.
      counted: what the zeros are of.
    """
    figure, axes = new_figure(7.2, 4.8)
    methods = list(dict.fromkeys(map(method, outcomes)))
    lines: dict[str, list[tuple[float, float]]] = {}
    for label, runs in outcomes.items():
        if not runs:
            continue
        points = 100 * np.array([[zeros(run), run["test_accuracy_u"]] for run in runs])
        name = method(label)
        color = PALETTE[methods.index(name) % len(PALETTE)]
        axes.plot(*points.T, "o", color=color, alpha=0.35, ms=4)
        lines.setdefault(name, []).append(tuple(points.mean(0)))
        axes.plot(*points.mean(0), "D", color=color, ms=6, label=None if len(lines[name]) > 1 else name)
    for i, (name, means) in enumerate(lines.items()):
        color = PALETTE[methods.index(name) % len(PALETTE)]
        axes.plot(*np.array(sorted(means)).T, "-", color=color, lw=1.2, zorder=-i)
    if paper:
        axes.plot([], [], "x", color="0.3", ms=8, label="printed in the paper")
    for name, (accuracy, share_of_zeros) in paper.items():
        axes.plot(share_of_zeros, accuracy, "x", color="0.3", ms=8, label=f"_paper: {name}")
        axes.annotate(
            f"paper: {name}", (share_of_zeros, accuracy), textcoords="offset points", xytext=(6, 4), fontsize=8
        )
    axes.set(xlabel=f"zeros of {counted}  [%]", ylabel="test accuracy of u  [%]")
    axes.legend(loc="best")
    return figure


def finished(study: Study, outcomes: Outcomes) -> str:
    """Returns a sentence on how much of the study is there."""
    wanted, there = (sum(map(len, part.values())) for part in (study, outcomes))
    seconds = [run["seconds_per_epoch"] for runs in outcomes.values() for run in runs if run["seconds_per_epoch"]]
    cost = f" An epoch took {np.median(seconds):.1f} s (median)." if seconds else ""
    rest = "" if there == wanted else " The same command goes on with the others."
    return f"{there} of {wanted} runs are finished.{rest}{cost}"
