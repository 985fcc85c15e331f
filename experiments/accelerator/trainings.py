"""Rows that train, and rows that time epochs, ours and PyTorch's."""

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
"""Images of a rehearsal that are kept for validation."""


class CannotEnd(Exception):
    """A training whose first epochs show that it would not end in time.

    Args:
      paces: seconds of its epochs, those of the first left out.
    """

    def __init__(self, paces: list[float]) -> None:
        super().__init__(f"would have ended too late: {len(paces) + 1} epochs were made" if paces else "began too late")
        self.found = {"seconds_per_epoch": statistics.median(paces)} if paces else {}


def train(recipe: CifarRecipe, data: Data, until: float, following: CifarRecipe | None) -> Facts:
    """Trains and returns the record of the run; the program of the next one is compiled meanwhile.

    Args:
      recipe: what to train.
      data: images.
      until: ``time.monotonic()`` at which it must have ended.
      following: the next training.

    Raises:
      CannotEnd: as soon as its epochs show it.
    """
    from ..training import rented
    from ..training.loop import OutOfTime

    ends: list[float] = []

    def on_epoch(row: Facts) -> None:
        ends.append(time.monotonic())
        if len(ends) == 1 and following is not None:
            rented.compile_ahead(following, data)  # only now: its own program is there

    try:
        record = rented.train(recipe, data, until, on_epoch)
    except OutOfTime:
        raise CannotEnd([after - before for before, after in itertools.pairwise(ends)]) from None
    short = {name: record[name] for name in ("seconds_per_epoch", "test_accuracy_u", "test_accuracy_w", "zeros")}
    return {"run": recipe.name()} | short | {"record": record}


@functools.cache
def data(folder: Path, small: bool) -> Data:
    """Returns CIFAR-10 on the device; ``small``: the few images of a rehearsal."""
    from ..data import cifar10, images

    if small:
        images.SOURCES["cifar10"] = (cifar10.load_cifar10, SMALL)
    return images.load("cifar10", folder)


def images_per_second(net: str, method: str, **settings: Any) -> Facts:
    """Returns the images in a second of our training, an entry an epoch."""
    from benchmarks import cifar

    return {"net": net, "images_per_second": cifar.images_per_second(net, method, **settings)}


def torch_images_per_second(net: str, batch: int, steps: int, repeats: int, compiled: bool) -> Facts:
    """Returns the images in a second of PyTorch, channels last, bfloat16 on an accelerator.

    Raises:
      Missing: PyTorch is not installed.
    """
    need_torch()
    import torch

    from benchmarks import cifar

    turns = cifar.peers(net, batch, steps, torch.cuda.is_available())
    turn: Callable[[], object] = next(turn for name, turn in turns.items() if name.endswith("compiled") == compiled)
    turn()
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        turn()
        found.append(steps * batch / (time.perf_counter() - started))
    return {"net": net, "batch": batch, "images_per_second": found}
