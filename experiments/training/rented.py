"""Trainings in minutes on a rented accelerator: whole epochs on the device, nothing written before the end.

A run that cannot end by its deadline stops early, since its checkpoint would be too large to bring home. While one run
trains, the programs of the next are compiled in a thread.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

from ..data.images import Data
from ..records.folder import BadInput, Facts
from .loop import OutOfTime, Programs, Row, Task, TrainState, compile_all, fit, make_programs, start
from .recipes import Recipe, make_task
from .run_store import outcome

EVALUATE_EVERY = 10
"""Epochs between two evaluations."""
PACE = 10
"""Epochs of which the mean time tells how long the others will take."""


class Ready(NamedTuple):
    """A run that may begin: its task, compiled programs, and state at the start."""

    task: Task
    programs: Programs
    state: TrainState


_ahead: dict[Recipe, Future[Ready]] = {}


def compile_ahead(recipe: Recipe, data: Data) -> Future[Ready]:
    """Starts compiling what ``train(recipe, data, ...)`` will run, in a thread, and returns at once.

    Args:
      recipe: the run; not one that starts from another.
      data: its images, the same as for ``train``.

    Returns:
      A handle that ``train`` finds by itself. ``result()`` waits for the programs and raises what went wrong.

    Raises:
      BadInput: a recipe that starts from another run.
    """
    _check(recipe)
    if recipe in _ahead:
        return _ahead[recipe]
    ahead: Future[Ready] = Future()

    def work() -> None:
        try:
            ahead.set_result(_ready(recipe, data))
        except BaseException as error:  # for whoever waits
            ahead.set_exception(error)

    _ahead[recipe] = ahead
    threading.Thread(target=work, name=f"compiling {recipe.name()}", daemon=True).start()
    return ahead


def train(
    recipe: Recipe,
    data: Data,
    deadline: float,
    on_epoch: Callable[[Row], None] = lambda row: None,
    *,
    evaluate_every: int = EVALUATE_EVERY,
) -> Facts:
    """Trains a run from its start to its end and returns its record, as ``experiments.training.run_store`` writes it.

    On an accelerator an epoch is one program, and nothing is moved to the host but two sums an epoch and the measures
    of an evaluation.

    Args:
      recipe: the run; not one that starts from another.
      data: its images, on the device.
      deadline: on the clock of ``time.monotonic``.
      on_epoch: called after each epoch with its metrics; accuracies and zeros are None where none were taken.
      evaluate_every: epochs between two evaluations, >= 1; the last epoch always has one.

    Returns:
      The record: settings, measures, curves (None at epochs without an evaluation), versions and device.

    Raises:
      BadInput: a recipe that starts from another run, or a batch larger than the set.
      Diverged: the loss is no longer finite.
      OutOfTime: at the pace of the last epochs the run would end after the deadline.
    """
    _check(recipe)
    waiting = _ahead.pop(recipe, None)
    ready = waiting.result() if waiting else _ready(recipe, data)
    seconds: list[float] = []
    last = time.monotonic()

    def out_of_time() -> bool:
        nonlocal last
        now = time.monotonic()
        seconds.append(now - last)
        last = now
        # Without ``compile_ahead`` the first epoch holds the rest of the compilation, on a CPU all of it.
        pace = statistics.mean(seconds[1:][-PACE:]) if len(seconds) > 1 else 0.0
        return now + (recipe.epochs - len(seconds)) * pace > deadline

    if last > deadline:
        raise OutOfTime
    end = fit(
        ready.task,
        epochs=recipe.epochs,
        batch=recipe.batch,
        key=recipe.keys()[1],
        folder=None,
        on_epoch=on_epoch,
        stop=out_of_time,
        evaluate_every=evaluate_every,
        programs=ready.programs,
        fresh=ready.state,
    )
    seconds.append(time.monotonic() - last)
    return outcome(recipe, ready.task, data, end, seconds) | {"evaluate_every": evaluate_every}


def _check(recipe: Recipe) -> None:
    if recipe.start is not None:
        raise BadInput(f"recipe must start from drawn weights, got {recipe.name()}, which starts from another run")


def _ready(recipe: Recipe, data: Data) -> Ready:
    task = make_task(recipe, data)
    programs, state = make_programs(task, recipe.batch), start(task)
    if programs.whole:
        compile_all(task, programs, state, recipe.keys()[1], data.test)
    return Ready(task, programs, state)
