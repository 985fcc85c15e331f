"""The report of ``lenet5-compress``."""

from __future__ import annotations

import numpy as np

from ....penalties.palette import PALETTE
from ....reports.document import Picture, Section, Table
from ....reports.figures import Axis, Figure, Look
from ....training.report import (
    LAYERS,
    column,
    curves,
    finished,
    layer_table,
    layers,
    percent,
    tradeoff,
)
from ....training.run_store import Outcomes, Study
from ..recipes import PARAMETERS
from .config import TUNED, Lenet5CompressConfig, entry

KERNELS = 430_500
"""Weights counted."""
FLOOR = (0.986, 0.992)
"""Zeros and accuracy to reach: those of ADMM in the literature (71 times fewer weights)."""


def figures(outcomes: Outcomes, config: Lenet5CompressConfig) -> dict[str, Figure]:
    """Returns the figures, by name: curves of the methods at the first share of zeros, the ends of all."""
    first = [entry(name, config.sparsity[0]) for name in config.methods]
    least = 0.98 if config.data == "mnist" else None
    tuned = {label: runs for label, runs in outcomes.items() if TUNED in label}
    ended = {"dense": outcomes["dense"]} | tuned
    return {
        "curves": curves({label: outcomes.get(label, []) for label in first}, least),
        "ends": ends(outcomes, config),
        "tradeoff": tradeoff(ended, lambda run: run["zeros"], lambda label: label.split(",")[0], {}),
        "layers": layers(tuned),
    }


def ends(outcomes: Outcomes, config: Lenet5CompressConfig) -> Figure:
    """Returns the test accuracy of each method, fine-tuned, each seed a point, its mean a line; a panel a share."""
    shown = [
        share for share in config.sparsity if any(outcomes.get(entry(f"{m}, {TUNED}", share)) for m in config.methods)
    ]
    figure = Figure(columns=2, width=360, share="y")
    dense = 100 * np.array(column(outcomes["dense"], "test_accuracy_u"))
    edges = -0.6, len(config.methods) - 0.4
    x = Axis("method", edges, ticks=dict(enumerate(config.methods)))
    for sparsity in shown or config.sparsity[:1]:
        panel = figure.panel(f"{100 * sparsity:g} % zeros", x, Axis("test accuracy of u  [%]"))
        for i, name in enumerate(config.methods):
            values = 100 * np.array(column(outcomes.get(entry(f"{name}, {TUNED}", sparsity), []), "test_accuracy_u"))
            own = Look(color=PALETTE[i], marker="circle")
            panel.points(np.full(len(values), i), values, own, opacity=0.6)
            if len(values):
                panel.segments([((i - 0.3, i + 0.3), [values.mean()] * 2)], own, width=2.5)
        if len(dense):
            panel.line(edges, [dense.mean()] * 2, Look("dense", dash="dashed"), width=1.2)
    return figure


def sections(study: Study, outcomes: Outcomes, config: Lenet5CompressConfig) -> list[Section]:
    """Returns the report."""
    shown = [
        Picture("ends.png", "Test accuracy after fine-tuning: a point a seed, a line the mean"),
        Picture("curves.png", f"Validation accuracy of u and its zeros on the way to {100 * config.sparsity[0]:g} %"),
        Picture("tradeoff.png", "Test accuracy of u, fine-tuned, against its zeros: a point a seed, diamonds: means"),
        Picture("layers.png", LAYERS),
    ]
    setting = (
        f"{finished(study, outcomes)} From one dense network a seed, {config.epochs} epochs with each method and "
        f"{config.tune_epochs} of fine-tuning with the pattern frozen, at the same learning rates. Accuracy: on the "
        "test set, read once at a run's end; mean ± standard deviation of the seeds. β and ρ were chosen on"
        " validation images."
    )
    tables = [_table(outcomes, config, sparsity) for sparsity in config.sparsity]
    dense = f"Dense: {percent(column(outcomes['dense'], 'test_accuracy_u'))} ({len(outcomes['dense'])} seeds)."
    tuned = {label: runs for label, runs in outcomes.items() if TUNED in label}
    by_layer = [Section("Zeros by layer", [layer_table(tuned, PARAMETERS)])] if any(tuned.values()) else []
    verdict = [_verdict(outcomes, config)] if config.data == "mnist" else []
    return [Section("Accuracy", [dense, *tables, *verdict]), *by_layer, Section("Setting", [setting, *shown])]


def _table(outcomes: Outcomes, config: Lenet5CompressConfig, sparsity: float) -> Table:
    rows = []
    for name in config.methods:
        found, tuned = (outcomes.get(entry(label, sparsity), []) for label in (name, f"{name}, {TUNED}"))
        before, after = (percent(column(runs, "test_accuracy_u")) for runs in (found, tuned))
        kept = np.mean([KERNELS * (1 - run["zeros"]) for run in tuned]) if tuned else np.nan
        times = f"{KERNELS / kept:.1f}" if tuned else ""
        zeros = percent(column(tuned, "zeros"))
        rows.append([name, before, percent(column(found, "zeros")), after, zeros, times, str(len(tuned))])
    columns = ["", "u, before", "zeros", "fine-tuned", "zeros", "times fewer", "seeds"]
    return Table(columns, rows, f"{100 * sparsity:g} % of zeros asked: accuracy in %")


def _verdict(outcomes: Outcomes, config: Lenet5CompressConfig) -> str:
    """Says whether the floor is reached at its share of zeros, and how RVSM stands to the other methods."""
    said = []
    for sparsity in config.sparsity:
        means = {
            name: float(np.mean(column(runs, "test_accuracy_u")))
            for name in config.methods
            if (runs := outcomes.get(entry(f"{name}, {TUNED}", sparsity)))
        }
        ours = {name: value for name, value in means.items() if name.startswith("rvsm")}
        others = {name: value for name, value in means.items() if name not in ours}
        if ours and others:
            best, rival = max(ours, key=ours.__getitem__), max(others, key=others.__getitem__)
            said.append(f"{100 * sparsity:g} %: {best} {ours[best]:.2%}, the best other, {rival}, {others[rival]:.2%}")
            if sparsity == FLOOR[0]:
                said.append(f"asked {FLOOR[1]:.1%}: {'reached' if ours[best] >= FLOOR[1] else 'missed'}")
    return "; ".join(said) + "." if said else "Not yet run."
