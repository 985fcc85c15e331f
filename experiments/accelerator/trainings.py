"""Rows that train, and rows that time our training and PyTorch's."""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..records.folder import Facts
from .sweeps import need_torch

if TYPE_CHECKING:
    from ..data.images import Data
    from ..studies.cifar.recipes import CifarRecipe

SMALL = 300
"""Validation images of a rehearsal."""


class TooSlow(Exception):
    """A training that would miss its deadline.

    Args:
      paces: seconds of its epochs after the first.
    """

    def __init__(self, paces: list[float]) -> None:
        super().__init__(f"would have ended too late: {len(paces) + 1} epochs were made" if paces else "began too late")
        self.result = {"seconds_per_epoch": statistics.median(paces)} if paces else {}


def train(recipe: CifarRecipe, data: Data, until: float, following: CifarRecipe | None) -> Facts:
    """Trains a run and returns its record; compiles the next run in the background.

    Args:
      recipe: the recipe.
      data: the images.
      until: deadline by ``time.monotonic()``.
      following: recipe of the next run.

    Raises:
      TooSlow: the run would miss its deadline.
    """
    from ..training import rented
    from ..training.loop import OutOfTime

    ends: list[float] = []

    def on_epoch(row: Facts) -> None:
        ends.append(time.monotonic())
        if len(ends) == 1 and following is not None:
            rented.compile_ahead(following, data)  # now this run is compiled

    try:
        record = rented.train(recipe, data, until, on_epoch)
    except OutOfTime:
        raise TooSlow([after - before for before, after in itertools.pairwise(ends)]) from None
    short = {name: record[name] for name in ("seconds_per_epoch", "test_accuracy_u", "test_accuracy_w", "zeros")}
    return {"run": recipe.name()} | short | {"record": record}


@functools.cache
def data(folder: Path, small: bool) -> Data:
    """Returns CIFAR-10 on the device, or the few images of a rehearsal if ``small``."""
    from ..data import cifar10, images

    if small:
        images.SOURCES["cifar10"] = (cifar10.load_cifar10, SMALL)
    return images.load("cifar10", folder)


def images_per_second(net: str, method: str, **settings: Any) -> Facts:
    """Returns the images per second of our training, by epoch."""
    from benchmarks import cifar

    return {"net": net, "images_per_second": cifar.images_per_second(net, method, **settings)}


def torch_images_per_second(net: str, batch: int, steps: int, repeats: int, compiled: bool) -> Facts:
    """Returns the images per second of PyTorch, channels last, bfloat16 on an accelerator.

    Raises:
      Missing: PyTorch is not installed.
    """
    need_torch()
    import torch

    from benchmarks import cifar

    peers = cifar.peers(net, batch, steps, torch.cuda.is_available())
    run: Callable[[], object] = next(run for name, run in peers.items() if name.endswith("compiled") == compiled)
    run()
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        rates.append(steps * batch / (time.perf_counter() - started))
    return {"net": net, "batch": batch, "images_per_second": rates}
