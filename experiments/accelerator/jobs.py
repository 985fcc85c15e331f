"""Measurements and trainings of a rental, most valuable first, with estimated seconds on an H100."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..records.folder import Facts

if TYPE_CHECKING:
    from ..studies.cifar.recipes import CifarRecipe

START = 6.0
"""Seconds until the process of a job can use its device."""
IMAGES = {"train": 45_000, "validation": 5000, "test": 10_000}
"""Images of CIFAR-10 by split."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of the measurements, by default those of a rental.

    Attributes:
      kernels: engines of ``run_sweep`` other than XLA's loop, the most promising first.
      penalties, dimensions: axes of the rates.
      compared: the dimension at which XLA's loop and PyTorch are measured too.
      lanes, steps, repeats: settings of the rates.
      seeds: small and large number of seeds of the grids.
      grid, beside, timed: other arguments of the grids, the comparison with the CPU, and our images per second.
      probed: side length of the matrices of the probe.
      batch, torch_steps: images per step and number of timed steps of PyTorch.
      rehearsal: whether this is a rehearsal.
    """

    kernels: tuple[str, ...] = ("cuda", "pallas")
    penalties: tuple[str, ...] = ("l1", "tl1", "l0")
    dimensions: tuple[int, ...] = (50, 10, 200)
    compared: int = 50
    lanes: int = 1_000_000
    steps: int = 1000
    repeats: int = 3
    seeds: tuple[int, int] = (10_000, 1_000_000)
    grid: Facts = dataclasses.field(default_factory=dict)
    beside: Facts = dataclasses.field(default_factory=dict)
    probed: int = 8192
    batch: int = 128
    timed: Facts = dataclasses.field(default_factory=dict)
    torch_steps: int = 50
    rehearsal: bool = False


FULL = Sizes()
TINY = Sizes(
    kernels=("interpret",),
    penalties=("l1",),
    dimensions=(3,),
    compared=3,
    lanes=64,
    steps=16,
    repeats=1,
    seeds=(4, 4),
    grid={"penalties": ("l1",), "d": (3,), "k": (2,)},
    beside={"penalties": ("l1",), "d": (3,), "k": (2,), "seeds": 4},
    probed=64,
    batch=20,
    timed={"batch": 20, "dtype": "float32", "count": 100, "epochs": 1},
    torch_steps=1,
    rehearsal=True,
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One result to measure.

    Attributes:
      job, part, name: identification. The rows of a part are compared with each other, so they must come from one kind
        of device.
      seconds: initial estimate for an H100.
      settings: settings of a measurement.
      recipe: recipe of a training.
    """

    job: str
    part: str
    name: str
    seconds: float
    settings: Facts = dataclasses.field(default_factory=dict)
    recipe: CifarRecipe | None = None

    @property
    def id(self) -> str:
        """``job/part/name``."""
        return f"{self.job}/{self.part}/{self.name}"


def epoch_images(recipe: CifarRecipe, sizes: dict[str, int]) -> int:
    """Returns the number of images per epoch; ``sizes`` are those of the splits."""
    return sizes["train"] + (sizes["validation"] if recipe.train_on == "all" else 0)


@dataclasses.dataclass(frozen=True)
class Job:
    """Rows measured by one process, in order.

    Attributes:
      name: name of the job.
      rows: rows of the job.
      trains: whether the job needs the images and may start if any row fits into the remaining time; other jobs start
        only if all their rows fit.
      shares: whether JAX leaves device memory for PyTorch.
    """

    name: str
    rows: tuple[Row, ...]
    trains: bool = False
    shares: bool = False


def make_jobs(sizes: Sizes = FULL) -> list[Job]:
    """Returns the queue: sweep, trainings, images per second."""
    return [make_job(name, sizes) for name in ROWS]


def make_job(name: str, sizes: Sizes) -> Job:
    """Returns one job of the queue."""
    return Job(name, tuple(ROWS[name](sizes)), trains=name == "train", shares=name in ("rates", "images"))


def _probe(sizes: Sizes) -> Iterator[Row]:
    for name, seconds in (("device", 1), ("copy", 2), ("products", 4), ("fma floor", 2)):
        yield Row("probe", "ceilings", name, seconds, {"size": sizes.probed})


def _equal(sizes: Sizes) -> Iterator[Row]:
    for engine in (*sizes.kernels, "xla"):
        yield Row("equal", "beside the CPU", engine, 8, {"engine": engine} | sizes.beside)


def _rates(sizes: Sizes) -> Iterator[Row]:
    first, *others = sizes.kernels
    for d in sizes.dimensions:
        for penalty in sizes.penalties:
            settings = {"penalty": penalty, "d": d, "lanes": sizes.lanes, "steps": sizes.steps}
            settings |= {"repeats": sizes.repeats}
            part = f"{penalty} d={d}"
            yield Row("rates", part, first, 2, settings | {"engine": first})
            if d == sizes.compared:
                yield Row("rates", part, "xla", 3, settings | {"engine": "xla"})
            for engine in others:
                yield Row("rates", part, engine, 2.5, settings | {"engine": engine})
            if d == sizes.compared and penalty == sizes.penalties[0]:
                yield Row("rates", part, "torch", 4, settings | {"engine": "torch"})
                yield Row("rates", part, "torch-compiled", 10, settings | {"engine": "torch-compiled"})


def _grid(sizes: Sizes) -> Iterator[Row]:
    for engine in (*sizes.kernels, "xla"):
        settings = {"engine": engine, "seeds": sizes.seeds[0], "repeats": sizes.repeats}
        yield Row("grid", "default grid", engine, 21, settings | sizes.grid)


def _grid_many(sizes: Sizes) -> Iterator[Row]:
    settings = {"seeds": sizes.seeds[1], "repeats": 1}
    yield Row("grid-many", "default grid", "kernel", 44, settings | sizes.grid)


def _trainings(sizes: Sizes) -> Iterator[Row]:
    from .recipes import curves, paper, tiny

    for part, recipes in (("paper", paper()), ("curves", curves())) if not sizes.rehearsal else (("tiny", tiny()),):
        for recipe in recipes:
            seconds = 80 if part == "curves" else 150 if recipe.net == "vgg16" else 240
            yield Row("train", part, recipe.name(), seconds, recipe=recipe)


def _images(sizes: Sizes) -> Iterator[Row]:
    from .recipes import tiny_net

    net, torch_net = (tiny_net(), "slim") if sizes.rehearsal else ("resnet18", "resnet18")
    for method in ("sgd",) if sizes.rehearsal else ("sgd", "l0"):
        yield Row("images", net, method, 18, {"net": net, "method": method} | sizes.timed)
    for name, seconds in (("torch", 12), ("torch-compiled", 36)):
        settings = {"net": torch_net, "batch": sizes.batch, "steps": sizes.torch_steps, "repeats": sizes.repeats}
        yield Row("images", net, name, seconds, settings | {"compiled": name == "torch-compiled"})


ROWS: dict[str, Callable[[Sizes], Iterator[Row]]] = {
    "probe": _probe,
    "equal": _equal,
    "rates": _rates,
    "grid": _grid,
    "grid-many": _grid_many,
    "train": _trainings,
    "images": _images,
}
"""Row generators of the jobs, in order."""
