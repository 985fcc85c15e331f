"""The report of ``cifar``."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from flax import nnx

from ...papers.cifar10 import PUBLISHED
from ...papers.intellisys_2020 import TABLES
from ...reports.document import Picture, Section, Table
from ...reports.figures import Figure
from ...training.report import LAYERS, column, curves, finished, layers, overall, percent, share, tradeoff
from ...training.run_store import Outcomes, Study
from .config import CifarConfig
from .recipes import CifarRecipe, convolutions

BEST = "Best epoch on the test set (released code's choice)"
"""Heading of a column beside ours."""
COSTS = ("PFLOP", "minutes", "cores")


def figures(outcomes: Outcomes, config: CifarConfig) -> dict[str, Figure]:
    """Returns the curves, accuracy against zeros, and zeros by layer, by name."""
    paper, others = (of.get(config.net, {}) if config.data == "cifar10" else {} for of in (TABLES, PUBLISHED))
    return {
        "curves": curves(outcomes, part=_evaluated_on(config)),
        "tradeoff": tradeoff(outcomes, thresholded, _method, paper, "the thresholded weights of u", others),
        "layers": layers(outcomes),
    }


def sections(study: Study, outcomes: Outcomes, config: CifarConfig) -> list[Section]:
    """Returns the report."""
    if config.preset == "released":
        images = (
            "All training images are trained on, as in the authors' released code. The test images are evaluated on "
            f"meanwhile, and nothing is chosen by that. {BEST}: too high as an estimate, the more so the more epochs "
            "are evaluated"
        )
    elif config.preset == "speedrun":
        images = (
            "All training images are trained on. The test images are read once, after the last epoch. Augmented: the "
            "scores of an image, its mirror image, and both shifted diagonally by a pixel, averaged. PFLOP: 10¹⁵ "
            "multiplications and additions in the convolutions and matrix products of the training, counted from their "
            "shapes, three passes for each image; those with zeros are included. Minutes: epochs times the median time "
            "of an epoch"
        )
    else:
        images = "5,000 of the training images are kept for choices and not trained on; the test images are read once"
    setting = (
        f"{finished(study, outcomes)} {config.epochs} epochs, batches of {config.batch}, {config.dtype}. Accuracy: on "
        "the test set, of the network at the last epoch; mean ± standard deviation of the seeds. "
        f"{images}. Zeros: of u, over the weights that are thresholded (the convolutions), and over all parameters."
    )
    shown = [
        Picture("tradeoff.png", "Test accuracy of u against its zeros: a point a seed, a diamond the mean"),
        Picture(
            "curves.png",
            f"{_evaluated_on(config).capitalize()} accuracy of u and its zeros: mean over seeds, range shaded",
        ),
        Picture("layers.png", LAYERS),
    ]
    parts = [Section("Accuracy and zeros", [_table(outcomes, config), *_verdict(outcomes, config)])]
    if any(outcomes.values()):
        parts.append(Section("Zeros by layer", [_layers(outcomes)]))
    return [*parts, Section("Setting", [setting, *shown])]


def _evaluated_on(config: CifarConfig) -> str:
    return "test" if config.preset in ("released", "speedrun") else "validation"


def thresholded(run: dict[str, Any]) -> float:
    """Returns the share of zeros over the convolutions."""
    return share([counts for name, counts in run["zeros_by_leaf"].items() if convolutions(name)])


@functools.cache
def parameters(net: str) -> int:
    """Returns the number of parameters of a network."""
    recipe = CifarRecipe(net=net)  # type: ignore[arg-type]
    leaves = jax.tree.leaves(nnx.state(nnx.eval_shape(recipe.make_network), nnx.Param))
    return sum(leaf.size for leaf in leaves)


def _method(label: str) -> str:
    """Returns a label without its strength."""
    return " ".join(part for part in label.split() if not part[0].isdigit() and part not in ("%", "λ", "="))


def _table(outcomes: Outcomes, config: CifarConfig) -> Table:
    paper = TABLES.get(config.net, {})
    rows = []
    for label, runs in outcomes.items():
        accuracy, zeros = paper.get(_method(label), ("", ""))
        whole = [overall(run, parameters(config.net)) for run in runs]
        measured = [
            column(runs, "test_accuracy_u"),
            column(runs, "test_accuracy_w"),
            list(map(thresholded, runs)),
            whole,
        ]
        if config.preset == "released":
            # The code evaluates w after ADMM; after RVSM u, which w then becomes.
            of = "accuracy_w" if label.startswith("admm") else "accuracy_u"
            found = [run["best_epoch_on_test"][of] for run in runs if "best_epoch_on_test" in run]
            measured.insert(2, found)
        if config.preset == "speedrun":
            measured.insert(1, column(runs, "augmented_test_accuracy_u"))
        theirs = [str(accuracy), str(zeros)] if paper else []
        costs = _costs(runs) if config.preset == "speedrun" else []
        rows.append([label, *theirs, *map(percent, measured), *costs, str(len(runs))])
    theirs = ["paper: accuracy", "zeros"] if paper else []
    best = [BEST] if config.preset == "released" else []
    augmented, costs = (["of u, augmented"], list(COSTS)) if config.preset == "speedrun" else ([], [])
    names = ["accuracy of u", *augmented, "of w", *best, "zeros, thresholded", "zeros, all"]
    return Table(["", *theirs, *names, *costs, "seeds"], rows, "Accuracy and zeros in %")


def _costs(runs: list[dict[str, Any]]) -> list[str]:
    """Returns the cells of ``COSTS``."""
    minutes = [run["seconds_per_epoch"] * len(run["curves"]["loss"]) / 60 for run in runs if run["seconds_per_epoch"]]
    operations = sorted({f"{run['operations'] / 1e15:.3g}" for run in runs})
    cores = sorted({str(run["cores"]) for run in runs})
    return [", ".join(operations), f"{np.mean(minutes):.1f}" if minutes else "", ", ".join(cores)]


def _verdict(outcomes: Outcomes, config: CifarConfig) -> list[str]:
    """Says for each row of the paper's table which of the runs have at least its zeros and its accuracy."""
    said = []
    if config.data != "cifar10":
        return []
    for name, (accuracy, zeros) in TABLES.get(config.net, {}).items():
        reaching = [
            label
            for label, runs in outcomes.items()
            if runs
            and 100 * np.mean([overall(run, parameters(config.net)) for run in runs]) >= zeros
            and 100 * np.mean(column(runs, "test_accuracy_u")) >= accuracy
        ]
        asked = f"{name} ({accuracy} % at {zeros} % zeros)"
        said.append(
            f"{asked}: {'reached by ' + '; '.join(reaching) if reaching else 'not reached by what is finished'}"
        )
    return [". ".join(said) + "."] if said else []


def _layers(outcomes: Outcomes) -> Table:
    """Returns zeros of u, a row a layer, a column an entry of the study."""
    there = {label: runs for label, runs in outcomes.items() if runs and any(run["zeros"] for run in runs)}
    there = there or {label: runs for label, runs in outcomes.items() if runs}
    sizes = {name: size for name, (_, size) in next(iter(there.values()))[0]["zeros_by_leaf"].items()}
    rows = [
        [name.removesuffix("/kernel"), f"{size:,}"]
        + [percent([share([run["zeros_by_leaf"][name]]) for run in runs], 1) for runs in there.values()]
        for name, size in sizes.items()
    ]
    return Table(["", "weights", *there], rows, "Zeros of u in %, by layer")
