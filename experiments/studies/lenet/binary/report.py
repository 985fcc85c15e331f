"""The report of ``lenet-binary``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....reports.document import Picture, Section, Table
from ....reports.figures import Figure
from ....training.report import LAYERS, column, curves, finished, layer_table, layers, percent, tradeoff
from ....training.run_store import Outcomes, Study
from ..recipes import PARAMETERS
from .config import ASKED, PAPER, UNITS, LenetBinaryConfig

FLOORS = {"dense": 0.985, "sparse": 0.98}
"""What ``--best`` is to reach."""


def figures(outcomes: Outcomes, config: LenetBinaryConfig) -> dict[str, Figure]:
    """Returns the curves, by name."""
    paper = {"base" if lam == "base" else f"λ = {lam:g}": row for lam, row in PAPER.items()}
    ends = {
        "tradeoff": tradeoff(outcomes, lambda run: run["zeros"], _method, {} if config.best else paper),
        "layers": layers(outcomes),
    }
    if config.best:
        return {"curves": curves(outcomes, 0.97 if config.data == "mnist" else None)} | ends
    split = {label: runs for label, runs in outcomes.items() if "epochs" not in label}
    short = {label: runs for label, runs in outcomes.items() if "epochs" in label}
    drawn = {"curves": curves(split)} | ({"others": curves(short)} if any(short.values()) else {})
    return drawn | ends


def _method(label: str) -> str:
    """Returns a label without its λ; all that is tried for fewer epochs is one."""
    return "others" if "epochs" in label else label.split(", λ")[0]


def sections(study: Study, outcomes: Outcomes, config: LenetBinaryConfig) -> list[Section]:
    """Returns the report."""
    pictures = {
        "curves": "Validation accuracy of u and its zeros: mean over seeds, range shaded",
        "others": f"Other penalties and choices, {config.other_epochs} epochs, one seed",
        "tradeoff": "Test accuracy of u against its zeros: a point a seed, a diamond the mean",
        "layers": LAYERS,
    }
    shown = [Picture(f"{name}.png", pictures[name]) for name in figures(outcomes, config)]
    if config.best:
        parts = [Section("As good as it gets", [_best_table(outcomes), _verdict_best(outcomes, config)])]
    else:
        parts = [Section("F Table 1", [_paper_table(outcomes, config), _verdict(outcomes, config)])]
        if config.other_epochs:
            parts.append(Section("Other penalties and choices", [_other_table(outcomes), _OTHERS]))
    setting = (
        f"{finished(study, outcomes)} Accuracy: on the test set, read once at a run's end; mean ± standard deviation "
        "of the seeds. The network at the last epoch counts, none is picked. Zeros: of u, over all kernels."
    )
    return [
        *parts,
        Section("Zeros by layer", [layer_table(outcomes, PARAMETERS)]),
        Section("Setting", [setting, *shown]),
    ]


_OTHERS = (
    "`group`: the weights into one filter or unit; `channel`: those out of one. Group lasso shrinks all groups of a "
    "layer alike, and a binary unit does not mind how long its weights are, so nothing holds one group up and lets "
    "another go: either none has reached zero or the network is lost. With the slope of the ReLU, the one that F "
    "analyses for one layer, the deep network barely learns at this learning rate."
)


def _paper_table(outcomes: Outcomes, config: LenetBinaryConfig) -> Table:
    rows = []
    for lam, (accuracy, zeros) in PAPER.items():
        label = lam if isinstance(lam, str) else f"group l1, λ = {lam:g}"
        rows.append([label, f"{accuracy:.2f}", f"{zeros:.2f}", *_ours(outcomes.get(label, []))])
    own = [UNITS, *(f"group l1, λ = {lam:g}" for lam in config.lam if lam not in PAPER)]
    rows += [[label, "", "", *_ours(outcomes.get(label, []))] for label in own]
    columns = ["", "paper: accuracy", "zeros", "accuracy of u", "of w", "zeros of u", "seeds"]
    return Table(columns, rows, "Accuracy and zeros in %, β = 1")


def _ours(runs: list[dict[str, Any]]) -> list[str]:
    names = ("test_accuracy_u", "test_accuracy_w", "zeros")
    return [*(percent(column(runs, name)) for name in names), str(len(runs))]


def _verdict(outcomes: Outcomes, config: LenetBinaryConfig) -> str:
    """Says for each row of the table which of our settings has at least its zeros and accuracy."""
    said = []
    for lam, (accuracy, zeros) in PAPER.items():
        row = lam if isinstance(lam, str) else f"{zeros} % of zeros"
        reaching = [
            label
            for label, runs in outcomes.items()
            if "epochs" not in label
            and runs
            and 100 * np.mean(column(runs, "zeros")) >= zeros
            and 100 * np.mean(column(runs, "test_accuracy_u")) >= accuracy
        ]
        said.append(f"{row}: {'reached by ' + '; '.join(reaching) if reaching else 'not reached by what is finished'}")
    literal = [lam for lam in config.lam if lam in PAPER]
    below = [
        f"{lam:g}"
        for lam in literal
        if (runs := outcomes[f"group l1, λ = {lam:g}"]) and 100 * np.mean(column(runs, "zeros")) < PAPER[lam][1]
    ]
    missed = f" The zeros printed for λ = {', '.join(below)} do not come about at that λ." if below else ""
    return ". ".join(said) + "." + missed


def _other_table(outcomes: Outcomes) -> Table:
    rows = [[label, *_ours(runs)[:-1]] for label, runs in outcomes.items() if "epochs" in label]
    return Table(["one seed", "accuracy of u", "of w", "zeros of u"], rows)


def _best_table(outcomes: Outcomes) -> Table:
    rows = [[label, *_ours(runs)] for label, runs in outcomes.items()]
    return Table(["", "accuracy of u", "of w", "zeros of u", "seeds"], rows, "Accuracy and zeros in %")


def _verdict_best(outcomes: Outcomes, config: LenetBinaryConfig) -> str:
    dense, _, tuned = outcomes.values()
    if config.data != "mnist" or not dense or not tuned:
        return f"Asked of MNIST: {FLOORS['dense']:.1%} dense, {FLOORS['sparse']:.1%} at {ASKED:.2%} zeros."
    accuracy, sparse = (np.mean(column(runs, "test_accuracy_u")) for runs in (dense, tuned))
    zeros = np.mean(column(tuned, "zeros"))
    return (
        f"Dense {accuracy:.2%} (asked {FLOORS['dense']:.1%}); {sparse:.2%} at {zeros:.2%} zeros (asked "
        f"{FLOORS['sparse']:.1%} at {ASKED:.2%}). The papers' own base has {PAPER['base'][0]} %."
    )
