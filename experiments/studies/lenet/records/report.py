"""The report of ``lenet-records``."""

from __future__ import annotations

import numpy as np

from ....reports.document import Picture, Section, Table
from ....reports.figures import Figure
from ....training.report import LAYERS, column, curves, finished, layers, percent
from ....training.run_store import Outcomes, Study
from .config import ASKED, FINE_TUNED, KERNELS, NETS, LenetRecordsConfig, cells, entry


def figures(outcomes: Outcomes, config: LenetRecordsConfig) -> dict[str, Figure]:
    """Returns validation curves and zeros by layer for each network, by name."""
    drawn = {}
    for network in (name for name in NETS if name in config.network):
        own = {label: runs for label, runs in outcomes.items() if label.startswith(network) and runs}
        if own:
            whole = {label: runs for label, runs in own.items() if not label.endswith(FINE_TUNED)}
            drawn[f"curves-{network}"] = curves(whole, 0.95 if config.data == "mnist" else None)
            drawn[f"layers-{network}"] = layers({label: own[label] for label in own if "before" not in label})
    return drawn


def sections(study: Study, outcomes: Outcomes, config: LenetRecordsConfig) -> list[Section]:
    """Returns the report."""
    captions = {"curves": "Validation accuracy of u and its zeros, without fine-tuning", "layers": LAYERS}
    shown = [Picture(f"{name}.png", captions[name.split("-")[0]]) for name in figures(outcomes, config)]
    tables = [_table(outcomes, config, *cell) for cell in cells(config)]
    fine_tuned = round(config.epochs / 5)
    setting = (
        f"{finished(study, outcomes)} {config.epochs} epochs from random weights, images shifted at random by up to a "
        f"pixel; {' and '.join(FINE_TUNED)} have the last {fine_tuned} of them for fine-tuning with the pattern "
        "frozen. Accuracy: on the test set, read once at a run's end; mean ± standard deviation of the seeds."
    )
    return [Section("The fewest weights", tables), Section("Setting", [setting, *shown])]


def _table(outcomes: Outcomes, config: LenetRecordsConfig, network: str, times: int) -> Table:
    rows = []
    for name in config.methods:
        runs = outcomes.get(entry(name, network, times), [])
        before = outcomes.get(entry(f"{name}, before", network, times), [])
        kept = [sum(size - zeros for zeros, size in run["zeros_by_leaf"].values()) for run in runs]
        fewer = f"{KERNELS[network] / np.mean(kept):.1f}" if runs else ""
        at_first = percent(column(before, "test_accuracy_u")) if before else ""
        left = f"{np.mean(kept):,.0f}" if runs else ""
        zeros = percent(column(runs, "zeros")) if runs else ""
        rows.append([name, at_first, percent(column(runs, "test_accuracy_u")), zeros, left, fewer, str(len(runs))])
    columns = ["", "before fine-tuning", "accuracy", "zeros", "weights", "times fewer", "seeds"]
    return Table(
        columns, rows, f"{network}, {times} times fewer weights (asked: {100 * ASKED[network, times]:.2f} %); in %"
    )
