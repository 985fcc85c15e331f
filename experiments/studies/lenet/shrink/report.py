"""What ``lenet5-shrink`` measures, and its report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import rvsmjax as rv
from rvsmjax.nets import LeNet, shrink

from ....data.images import Data, load
from ....reports.document import Picture, Section, Table
from ....reports.figures import Axis, Figure
from ....training.inference import sizes, times
from ....training.loop import EVALUATED
from ....training.recipes import Recipe
from ....training.report import column, finished, look, percent
from ....training.run_store import Outcomes, Runs, Study, read
from ....training.study import KEPT
from ..recipes import preparation
from .config import DENSE, TUNED, Lenet5ShrinkConfig, entry

FASTER, POINTS = 1.5, 0.3
"""Times faster, and points of accuracy, that are asked for."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of the smaller networks.

    Attributes:
      chosen: the share of units that validation chose.
      seeds: a dict for each share and seed: widths, test accuracy, how far the scores are from those of u.
      seconds: by batch size, then by network, of every repeat; the networks are those of the first seed.
      sizes: by network.
    """

    chosen: float
    seeds: list[dict[str, Any]]
    seconds: dict[int, dict[str, np.ndarray]]
    sizes: dict[str, dict[str, int]]

    def speed_up(self, images: int, network: str) -> np.ndarray:
        """Returns how many times as fast as the dense network each repeat was."""
        return self.seconds[images][DENSE] / self.seconds[images][network]

    def facts(self) -> dict[str, Any]:
        """Returns what stands in ``config.json``."""
        quantiles = {
            str(images): {name: np.quantile(taken, [0.25, 0.5, 0.75]).tolist() for name, taken in by_name.items()}
            for images, by_name in self.seconds.items()
        }
        return {"chosen": self.chosen, "seeds": self.seeds, "seconds_quartiles": quantiles, "sizes": self.sizes}


def measure(study: Study, outcomes: Outcomes, config: Lenet5ShrinkConfig, folder: Path) -> Measured:
    """Returns what is measured, and writes the chosen network of the first seed to ``folder``, in both formats."""
    data = load(config.data, config.data_dir)
    runs = Runs(config.runs or KEPT, lambda: data)
    seeds: list[dict[str, Any]] = []
    found: dict[float, tuple[LeNet, LeNet]] = {}
    chosen = choose(outcomes, config)
    for share in config.share:
        for recipe in study[entry(TUNED, share)]:
            if read(runs.path(recipe)) is not None:
                whole = network_of(recipe, runs)
                small = shrink(whole)
                seeds.append({"share": share, "seed": recipe.seed} | compare(whole, small, data))
                found.setdefault(share, (whole, small))
    dense = network_of(study[DENSE][0], runs)
    networks = {DENSE: dense, "with zeros": found[chosen][0]} | {smaller(s): small for s, (_, small) in found.items()}
    prepare = preparation(0)
    seconds = {}
    for images in config.images:
        x = prepare(jnp.resize(data.test.images, (images, *data.test.images.shape[1:])), jax.random.key(0), False)
        seconds[images] = times(networks, x, config.repeats)
    small = found[chosen][1]
    params = nnx.to_pure_dict(nnx.state(small, nnx.Param))
    rv.save_npz(folder / "small.npz", params)
    rv.save_safetensors(folder / "small.safetensors", params, {"widths": " ".join(map(str, widths(small)))})
    own = {name: sizes(nnx.state(network, nnx.Param)) for name, network in networks.items()}
    return Measured(chosen, seeds, seconds, own)


def choose(outcomes: Outcomes, config: Lenet5ShrinkConfig) -> float:
    """Returns the largest share whose mean validation accuracy is near enough to the dense networks'; else the least.

    Only seeds that have both are compared.
    """
    dense = {run["settings"].get("seed", 0): run["validation_accuracy_u"] for run in outcomes[DENSE]}
    good, there = [], []
    for share in config.share:
        tuned = {run["settings"].get("seed", 0): run["validation_accuracy_u"] for run in outcomes[entry(TUNED, share)]}
        lost = [dense[seed] - value for seed, value in tuned.items() if seed in dense]
        there += [share] * bool(lost)
        if lost and 100 * np.mean(lost) <= config.loss + 1e-9:
            good.append(share)
    return max(good, default=min(there or config.share))


def network_of(recipe: Recipe, runs: Runs) -> LeNet:
    """Returns the network of a finished run, its parameters u, in evaluation."""
    network = recipe.make_network()
    assert isinstance(network, LeNet)
    nnx.update(network, *runs.weights(recipe))
    network.eval()
    return network


def compare(whole: LeNet, small: LeNet, data: Data) -> dict[str, Any]:
    """Returns widths and test accuracy of the smaller network, and how far its scores are from those of the other."""
    prepare, run = preparation(0), nnx.jit(lambda network, x: network(x))
    right = moved = 0
    furthest = largest = 0.0
    for start in range(0, len(data.test.labels), EVALUATED):
        x = prepare(data.test.images[start : start + EVALUATED], jax.random.key(0), False)
        before, after = run(whole, x), run(small, x)
        right += int(jnp.sum(after.argmax(-1) == data.test.labels[start : start + EVALUATED]))
        moved += int(jnp.sum(after.argmax(-1) != before.argmax(-1)))
        furthest = max(furthest, float(jnp.abs(after - before).max()))
        largest = max(largest, float(jnp.abs(before).max()))
    accuracy = right / len(data.test.labels)
    return {
        "widths": widths(small),
        "test_accuracy": accuracy,
        "answers_that_differ": moved,
        "scores_differ_by": furthest,
        "largest_score": largest,
    }


def widths(network: LeNet) -> list[int]:
    """Returns channels of the convolutions, and units."""
    return [part.kernel.shape[-1] for part in (network.conv1, network.conv2, network.dense1)]


def smaller(share: float) -> str:
    """Returns the name of the network without a share of its units."""
    return f"{100 * share:g} % of units out"


def figure(measured: Measured) -> Figure:
    """Returns the times of inference by batch size: medians, and the middle half of the repeats."""
    result = Figure(width=460, height=300)
    images = list(measured.seconds)
    x = Axis("images in a batch", scale="log", ticks={count: f"{count}" for count in images})
    panel = result.panel("", x, Axis("time of a batch  [ms]", scale="log"))
    for i, name in enumerate(next(iter(measured.seconds.values()))):
        low, middle, high = (
            1e3 * np.array([np.quantile(by_name[name], q) for by_name in measured.seconds.values()])
            for q in (0.25, 0.5, 0.75)
        )
        panel.band(images, low, high, look(i, name))
        panel.line(images, middle, look(i, name, "circle"))
    return result


def sections(study: Study, outcomes: Outcomes, config: Lenet5ShrinkConfig, measured: Measured) -> list[Section]:
    """Returns the report."""
    setting = (
        f"{finished(study, outcomes)} From one dense network a seed, {config.find_epochs} epochs with rvsm and the "
        f"top-k of units, {config.tune_epochs} of fine-tuning with the pattern frozen. Validation chose "
        f"{100 * measured.chosen:g} %: the largest share whose mean accuracy there is at most {config.loss:g} points "
        "under that of the dense networks. Test accuracy: read once at a run's end; mean ± standard deviation of the "
        "seeds."
    )
    timing = (
        f"Compiled networks, weights inside, {config.repeats} batches of each size in turns in one process, after a "
        'warm-up: median, and the quarter below and above. "With zeros" is the chosen network before it is shrunk.'
    )
    picture = Picture("inference.png", "Time of a batch: medians, and the middle half of the repeats")
    return [
        Section("Accuracy", [_accuracy(outcomes, config, measured), _verdict(outcomes, config, measured)]),
        Section("Time and size", [_time_table(measured), _size_table(measured), timing]),
        Section("Setting", [setting, picture]),
    ]


def _accuracy(outcomes: Outcomes, config: Lenet5ShrinkConfig, measured: Measured) -> Table:
    rows = []
    dense = outcomes[DENSE]
    own = [percent(column(dense, name)) for name in ("validation_accuracy_u", "test_accuracy_u")]
    rows.append([DENSE, "20-50-500", *own, "", "", str(len(dense))])
    for share in config.share:
        tuned = outcomes[entry(TUNED, share)]
        small = [one for one in measured.seeds if one["share"] == share]
        if small:
            rows.append(
                [
                    smaller(share) + " (chosen)" * (share == measured.chosen),
                    "-".join(map(str, small[0]["widths"])),
                    percent(column(tuned, "validation_accuracy_u")),
                    percent(column(small, "test_accuracy")),
                    f"{max(one['scores_differ_by'] / one['largest_score'] for one in small):.0e}",
                    str(sum(one["answers_that_differ"] for one in small)),
                    str(len(small)),
                ]
            )
    columns = ["", "widths", "validation", "test", "scores differ by", "answers", "seeds"]
    return Table(columns, rows, "Accuracy in %; scores beside those of u, over the largest, and answers that differ", 2)


def _verdict(outcomes: Outcomes, config: Lenet5ShrinkConfig, measured: Measured) -> str:
    small = [one for one in measured.seeds if one["share"] == measured.chosen]
    dense = {run["settings"].get("seed", 0): run["test_accuracy_u"] for run in outcomes[DENSE]}
    lost = 100 * float(np.mean([dense[one["seed"]] - one["test_accuracy"] for one in small]))
    times_faster = [float(np.median(measured.speed_up(n, smaller(measured.chosen)))) for n in measured.seconds]
    shown = ", ".join(f"{value:.1f}" for value in times_faster)
    said = (
        f"At {', '.join(map(str, measured.seconds))} images a batch {shown} times as fast as the dense network, at a "
        f"test accuracy {abs(lost):.2f} points {'lower' if lost > 0 else 'higher'}"
    )
    reached = min(times_faster) >= FASTER and lost <= POINTS
    asked = f"; asked {FASTER} times at {POINTS} points: {'reached' if reached else 'missed'}"
    return said + asked * (config.data == "mnist") + "."


def _time_table(measured: Measured) -> Table:
    rows = []
    for name in next(iter(measured.seconds.values())):
        row = [name]
        for images, by_name in measured.seconds.items():
            low, middle, high = 1e3 * np.quantile(by_name[name], [0.25, 0.5, 0.75])
            faster = np.median(measured.speed_up(images, name))
            row += [f"{middle:.3g} ({low:.3g} to {high:.3g})", f"{faster:.2f}"]
        rows.append(row)
    columns = [""]
    for images in measured.seconds:
        columns += [f"{images} image{'s' * (images > 1)}", "times as fast"]
    return Table(columns, rows, "Time of a batch in ms")


def _size_table(measured: Measured) -> Table:
    names = ["numbers", "bytes", "bytes as BCOO", "bytes as npz"]
    rows = [[name, *(f"{own[key]:,}" for key in names)] for name, own in measured.sizes.items()]
    return Table(["", *names], rows, "Size")
