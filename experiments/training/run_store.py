"""Trainings that are kept: a finished run is one small file, so a study is completed piece by piece.

Several processes may work on the same folder: each takes runs that no other has in hand.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import optax

import rvsmjax as rv
from rvsmjax._pytree import PyTree

from ..data.images import Data
from ..records.environment import describe
from ..records.folder import BadInput, Facts, alone, write_whole
from .loop import Fit, Row, Task, evaluator, fit
from .programs import split
from .recipes import Recipe, make_task

CURVES = ("loss", "train_accuracy", "accuracy_w", "accuracy_u", "zeros")
SAVE_EVERY = 20.0
"""Seconds between the checkpoints of a run; a state of 100 MB takes a second or so."""
Study = dict[str, list[Recipe]]
"""Runs by what they show; those of one entry differ in the seed alone."""
Outcomes = dict[str, list[Facts]]
"""The finished runs of a study, see ``Runs.result``."""
Watch = Callable[[Recipe, Row], None]


class InHand(Exception):
    """Another process trains this run."""


class Runs:
    """The runs in a folder.

    Args:
      folder: holds NAME.json (finished), NAME.npz (its sparse weights) and NAME/ (under way) for each run.
      load: returns the images; called when a run must be trained.
      watch: called after each epoch.
      time_limit: seconds from now after which no epoch is begun; None: no limit.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[], Data],
        watch: Watch = lambda recipe, row: None,
        time_limit: float | None = None,
    ) -> None:
        self.folder = folder
        self.load = functools.cache(load)
        self.watch = watch
        self.deadline = None if time_limit is None else time.monotonic() + time_limit

    def result(self, recipe: Recipe) -> Facts:
        """Returns what came of a run, trained now unless it is there: its settings, measures and curves.

        Raises:
          OutOfTime: the limit came first.
          InHand: another process has the run in hand.
          Diverged: the loss is no longer finite.
        """
        path = self.path(recipe)
        found = read(path)
        if found is not None:
            return found
        with self._held(recipe):
            return read(path) or self._train(recipe, path)

    def path(self, recipe: Recipe) -> Path:
        """Returns the file of a finished run."""
        return self.folder / f"{recipe.name()}.json"

    @contextlib.contextmanager
    def _held(self, recipe: Recipe) -> Iterator[None]:
        path = self.folder / ".locks" / recipe.name()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with alone(path) as held:
            if not held:
                raise InHand(path.name)
            yield

    def _train(self, recipe: Recipe, path: Path) -> Facts:
        data = self.load()
        task = make_task(recipe, data, None if recipe.start is None else self.weights(recipe.start))
        seconds: list[float] = []
        last = time.perf_counter()

        def on_epoch(row: Row) -> None:
            nonlocal last
            seconds.append(time.perf_counter() - last)
            last = time.perf_counter()
            self.watch(recipe, row)

        under_way = path.with_suffix("")
        key = recipe.keys()[1]
        end = fit(
            task,
            epochs=recipe.epochs,
            batch=recipe.batch,
            key=key,
            folder=under_way,
            on_epoch=on_epoch,
            settings=recipe.settings(),
            stop=lambda: self.deadline is not None and time.monotonic() > self.deadline,
            save_every=SAVE_EVERY,
        )
        result = outcome(recipe, task, data, end, seconds)
        rv.save_npz(path.with_suffix(".npz"), {"params": end.u, "rest": end.rest_u})
        write_whole(path, json.dumps(result) + "\n")
        shutil.rmtree(under_way)
        return result

    def weights(self, recipe: Recipe) -> tuple[optax.Params, PyTree]:
        """Returns parameters (u) and rest of the network at the end of a run, trained now if they are not there.

        Raises:
          OutOfTime, InHand, Diverged: see ``result``.
        """
        path = self.path(recipe)
        if not path.with_suffix(".npz").exists():
            # A finished run may have come without its weights; its file stays until it is trained again.
            with self._held(recipe):
                self._train(recipe, path)
        _, params, rest = split(recipe.make_network())
        loaded = rv.load_npz(path.with_suffix(".npz"), {"params": params, "rest": rest})
        return loaded["params"], loaded["rest"]


def read(path: Path) -> Facts | None:
    """Returns a finished run, or None where there is none.

    Raises:
      BadInput: the file holds no run.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if not {"settings", "curves"} <= result.keys():
            raise ValueError
        return dict(result)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError):
        raise BadInput(f"{path} must be the file of a finished run; remove it to train anew") from None


def outcome(recipe: Recipe, task: Task, data: Data, end: Fit, seconds: Sequence[float]) -> Facts:
    """Returns what is kept of a finished run: its settings, measures and curves.

    Of a run that trained on all images no validation accuracy exists, its curves are of the test images, and
    ``best_epoch_on_test`` holds the best of the epochs that were evaluated: the choice of the authors' released code,
    too high as an estimate, and nothing of ours may be chosen by it.

    Args:
      recipe: what was trained.
      task: the same as a task.
      data: its images; the test images are read here.
      end: of the training.
      seconds: of each epoch that this process trained.
    """
    accuracy = evaluator(task)
    zeros = rv.sparsity(end.u)
    last, held_out = end.history[-1], recipe.train_on == "part"
    curves = {name: [_rounded(row[name]) for row in end.history] for name in CURVES}
    result = {
        "settings": recipe.settings(),
        "test_accuracy_u": accuracy(end.u, end.rest_u, data.test),
        "test_accuracy_w": accuracy(end.state.params, end.state.rest, data.test),
        "validation_accuracy_u": last["accuracy_u"] if held_out else None,
        "validation_accuracy_w": last["accuracy_w"] if held_out else None,
        "zeros": float(zeros.total.fraction),
        "zeros_by_leaf": {name: [int(leaf.zeros), int(leaf.size)] for name, leaf in zeros.leaves.items()},
        "seconds_per_epoch": statistics.median(seconds) if seconds else None,
        "curves": curves,
        **{name: fact for name, fact in describe().items() if name != "platform"},
    }
    if not held_out:
        looks = {name: [value for value in curves[name] if value is not None] for name in ("accuracy_u", "accuracy_w")}
        best = {name: max(values) for name, values in looks.items()}
        result["best_epoch_on_test"] = {**best, "evaluated_epochs": len(looks["accuracy_u"])}
    return result


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
