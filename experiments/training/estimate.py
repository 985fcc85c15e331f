"""Cost estimates of training studies for ``--dry-run``, from their finished runs."""

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
"""Seconds per epoch of LeNet on MNIST, if no run is finished."""
TRAINING_MEMORY = 1.4e9


def of_runs(command: str, make_study: Callable[[Config], Study]) -> Callable[[Config], Plan]:
    """Returns the ``workload`` of a command: the epochs of unfinished runs, at the speed of the finished ones."""
    return lambda config: _plan(command, config, make_study(config))


def _plan(command: str, config: TrainingConfig, study: Study) -> Plan:
    from .run_store import read
    from .study import KEPT

    folder = config.runs or KEPT
    recipes = [recipe for group in study.values() for recipe in group]
    runs = [read(folder / f"{recipe.name()}.json") for recipe in recipes]
    todo = {recipe for recipe, run in zip(recipes, runs, strict=True) if run is None}
    for recipe in list(todo):
        start = recipe.start
        # A finished run without weights is trained again if another run starts from it.
        while start is not None and not (folder / f"{start.name()}.npz").exists():
            todo.add(start)
            start = start.start
    epochs = sum(recipe.epochs for recipe in todo)
    measured = [run["seconds_per_epoch"] for run in runs if run and run["seconds_per_epoch"]]
    per_epoch = statistics.median(measured) if measured else EPOCH_SECONDS if config.data == "mnist" else None
    if config.data.startswith("digits"):
        per_epoch = 1.0
    finished = sum(run is not None for run in runs)
    size = f"{len(recipes)} runs, of which {finished} are finished; {epochs:,} epochs to train"
    seconds = 0.0 if config.finished or not epochs else None if per_epoch is None else 5 + per_epoch * epochs
    if config.minutes is not None:
        seconds = 60 * config.minutes if seconds is None else min(seconds, 60 * config.minutes)
    lenet = command.startswith("lenet")
    return Plan(command, size, seconds, TRAINING_MEMORY if lenet else None, 5e6 * len(recipes) if lenet else None)
