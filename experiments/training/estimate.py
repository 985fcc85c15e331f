"""What the commands that train would do, for ``--dry-run``: by the runs that are finished."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ..cli.estimate import Plan

if TYPE_CHECKING:
    from .run_store import Study
    from .study import TrainingConfig

Config = TypeVar("Config", bound="TrainingConfig")

EPOCH_SECONDS = 5.5
"""Of LeNet on MNIST, where no finished run tells."""
TRAINING_MEMORY = 1.4e9


def of_runs(command: str, make_study: Callable[[Config], Study]) -> Callable[[Config], Plan]:
    """Returns what estimates a command: the epochs of its runs that are not finished, at the pace of those that are."""
    return lambda config: _plan(command, config, make_study(config))


def _plan(command: str, config: TrainingConfig, study: Study) -> Plan:
    from .run_store import read
    from .study import KEPT

    folder = config.runs or KEPT
    recipes = [recipe for group in study.values() for recipe in group]
    found = [read(folder / f"{recipe.name()}.json") for recipe in recipes]
    todo = {recipe for recipe, run in zip(recipes, found, strict=True) if run is None}
    for recipe in list(todo):
        start = recipe.start
        # A run that came without its weights is trained again where another starts from them.
        while start is not None and not (folder / f"{start.name()}.npz").exists():
            todo.add(start)
            start = start.start
    epochs = sum(recipe.epochs for recipe in todo)
    took = [run["seconds_per_epoch"] for run in found if run and run["seconds_per_epoch"]]
    each = statistics.median(took) if took else EPOCH_SECONDS if config.data == "mnist" else None
    if config.data.startswith("digits"):
        each = 1.0
    there = sum(run is not None for run in found)
    size = f"{len(recipes)} runs, of which {there} are finished; {epochs:,} epochs to train"
    seconds = 0.0 if config.finished or not epochs else None if each is None else 5 + each * epochs
    if config.minutes is not None:
        seconds = 60 * config.minutes if seconds is None else min(seconds, 60 * config.minutes)
    lenet = command.startswith("lenet")
    return Plan(command, size, seconds, TRAINING_MEMORY if lenet else None, 5e6 * len(recipes) if lenet else None)
