"""Training on a rented accelerator: whole epochs on the device, no checkpoints, a deadline.

Checkpoints would be too large to transfer back, so a run that would miss its deadline stops early. While a run trains,
a thread compiles the programs of the next.
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
"""Number of last epochs whose mean time predicts that of the remaining ones."""


class Ready(NamedTuple):
    """Task, compiled programs and initial state of a run."""

    task: Task
    programs: Programs
    state: TrainState


_ahead: dict[Recipe, Future[Ready]] = {}


def compile_ahead(recipe: Recipe, data: Data) -> Future[Ready]:
    """Starts a thread that compiles the programs of ``train(recipe, data, ...)``.

    Args:
      recipe: a recipe that does not start from another run.
      data: the images, the same as for ``train``.

    Returns:
      A future, which ``train`` uses; ``result()`` waits for the programs and raises errors of the compilation.

    Raises:
      BadInput: the recipe starts from another run.
    """
    _check(recipe)
    if recipe in _ahead:
        return _ahead[recipe]
    ahead: Future[Ready] = Future()

    def work() -> None:
        try:
            ahead.set_result(_ready(recipe, data))
        except BaseException as error:  # raised by ``result()``
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
    """Trains a run and returns its record in the format of ``experiments.training.run_store``.

    On an accelerator an epoch is a single program; only two sums per epoch and the results of evaluations are
    transferred to the host.

    Args:
      recipe: a recipe that does not start from another run.
      data: the images, on the device.
      deadline: latest end by ``time.monotonic``.
      on_epoch: called with the metrics of each epoch; accuracies and zeros are None without an evaluation.
      evaluate_every: epochs between two evaluations; the last epoch is always evaluated.

    Returns:
      The record: settings, results, curves (None at epochs without an evaluation), versions and device.

    Raises:
      BadInput: the recipe starts from another run, or its batch exceeds the training set.
      Diverged: the loss is no longer finite.
      OutOfTime: at the speed of the last epochs the run would miss the deadline.
    """
    _check(recipe)
    compiling = _ahead.pop(recipe, None)
    ready = compiling.result() if compiling else _ready(recipe, data)
    seconds: list[float] = []
    last = time.monotonic()

    def out_of_time() -> bool:
        nonlocal last
        now = time.monotonic()
        seconds.append(now - last)
        last = now
        # The first epoch is left out: without ``compile_ahead`` it includes compilation.
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
        raise BadInput(f"recipe must start from random weights, got {recipe.name()}, which starts from another run")


def _ready(recipe: Recipe, data: Data) -> Ready:
    task = make_task(recipe, data)
    programs, state = make_programs(task, recipe.batch), start(task)
    if programs.whole:
        compile_all(task, programs, state, recipe.keys()[1], data.test)
    return Ready(task, programs, state)
