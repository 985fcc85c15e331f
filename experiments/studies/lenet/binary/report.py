"""The report of ``lenet-binary``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....reports.document import Picture, Section, Table
from ....reports.figures import Figure
from ....training.report import LAYERS, column, curves, finished, layer_table, layers, percent, share, tradeoff
from ....training.run_store import Outcomes, Study
from ....training.settings import Recipe
from ..recipes import PARAMETERS
from .config import ASKED, PAPER, UNITS, LenetBinaryConfig
from .settings import SETTINGS

FLOORS = {"dense": 0.985, "sparse": 0.98}
"""What ``--best`` is to reach."""
EXPLAINED = 1.0
"""Percentage points of accuracy and of zeros within which a setting with a row's λ explains the row."""


def figures(outcomes: Outcomes, config: LenetBinaryConfig) -> dict[str, Figure]:
    """Returns the curves, by name."""
    paper = {_row(lam): row for lam, row in PAPER.items()}
    outcomes, own = _parts(outcomes)
    ends = {
        "tradeoff": tradeoff(outcomes, lambda run: run["zeros"], _method, {} if config.best else paper),
        "layers": layers(outcomes),
    }
    if config.best:
        return {"curves": curves(outcomes, 0.97 if config.data == "mnist" else None)} | ends
    split = {label: runs for label, runs in outcomes.items() if "epochs" not in label}
    short = {label: runs for label, runs in outcomes.items() if "epochs" in label}
    drawn = {"curves": curves(split)} | ({"others": curves(short)} if any(short.values()) else {})
    settings = tradeoff(own, lambda run: run["zeros"], lambda label: label.split(", λ")[0], paper)
    return drawn | ends | ({"settings": settings} if any(own.values()) else {})


def _parts(outcomes: Outcomes) -> tuple[Outcomes, Outcomes]:
    """Returns the runs of the table, and those of other settings."""
    own = {label: runs for label, runs in outcomes.items() if label in SETTINGS}
    return {label: runs for label, runs in outcomes.items() if label not in own}, own


def _row(lam: float | str) -> str:
    """Returns the name of a row of the paper's table."""
    return lam if isinstance(lam, str) else f"λ = {lam:g}"


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
        "settings": f"Settings beside the paper's, {config.settings_epochs} epochs, one seed",
    }
    shown = [Picture(f"{name}.png", pictures[name]) for name in figures(outcomes, config)]
    there, (outcomes, own) = outcomes, _parts(outcomes)
    if config.best:
        parts = [Section("As good as it gets", [_best_table(outcomes), _verdict_best(outcomes, config)])]
    else:
        parts = [Section("F Table 1", [_paper_table(outcomes, config), _verdict(outcomes, config)])]
        if config.other_epochs:
            parts.append(Section("Other penalties and choices", [_other_table(outcomes), _OTHERS]))
        if config.settings_epochs:
            parts.append(Section("Settings beside the paper's", [_settings_table(own), _explained(study, own)]))
    setting = (
        f"{finished(study, there)} Accuracy: on the test set, read once at a run's end; mean ± standard deviation "
        "of the seeds. The network at the last epoch counts, none is picked. Zeros: of u, over all kernels."
    )
    if any(outcomes.values()):
        parts.append(Section("Zeros by layer", [layer_table(outcomes, PARAMETERS)]))
    return [
        *parts,
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


def _settings_table(own: Outcomes) -> Table:
    rows = []
    for label, runs in own.items():
        convolutions = [share([c for name, c in run["zeros_by_leaf"].items() if "conv" in name]) for run in runs]
        rows.append([label, *_ours(runs)[:-1], percent(convolutions), _nearest(runs[0]) if runs else ""])
    columns = ["one seed", "accuracy of u", "of w", "zeros of u", "of its convolutions", "nearest row of the paper"]
    return Table(columns, rows, "Accuracy and zeros in %")


def _off(run: dict[str, Any], lam: float | str) -> tuple[float, float]:
    """Returns by how many points accuracy and zeros of a run exceed those of a row of the paper's table."""
    accuracy, zeros = PAPER[lam]
    return 100 * run["test_accuracy_u"] - accuracy, 100 * run["zeros"] - zeros


def _nearest(run: dict[str, Any]) -> str:
    """Returns the row of the paper's table that a run comes nearest to, with its accuracy and zeros."""
    lam = min(PAPER, key=lambda lam: math.hypot(*_off(run, lam)))
    return f"{_row(lam)}: {PAPER[lam][0]:.2f}, {PAPER[lam][1]:.2f}"


def _explained(study: Study, own: Outcomes) -> str:
    """Says for each row of the paper which setting comes nearest, and whether one with the row's λ explains it."""
    there = {label: runs[0] for label, runs in own.items() if runs}
    if not there:
        return "Not yet run."
    said = []
    for lam, (accuracy, zeros) in PAPER.items():
        off = {label: _off(run, lam) for label, run in there.items()}
        nearest, (more, zeros_more) = min(off.items(), key=lambda item: math.hypot(*item[1]))
        explained = any(_lam(study[label][0]) == lam and max(map(abs, off[label])) <= EXPLAINED for label in off)
        said.append(
            f"{_row(lam)}, {accuracy:.2f} % at {zeros:.2f} % zeros: nearest is {nearest} ({more:+.2f} and "
            f"{zeros_more:+.2f} points), {'explained' if explained else 'not explained'}"
        )
    return "; ".join(said) + f". A row is explained by a setting with its λ within {EXPLAINED:g} point of both numbers."


def _lam(recipe: Recipe) -> float | str:
    """Returns the key of the row of the paper's table that a setting has the λ of."""
    return "base" if recipe.method == "sgd" else recipe.loss_lasso or recipe.lam


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
