"""Store of finished training runs, one small file each. Several processes may share a folder; each run is locked."""

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
from rvsmjax.transforms import splitting_states

from ..data.images import Data
from ..records.environment import describe
from ..records.folder import BadInput, Facts, alone, write_whole
from ..records.tensorboard import Logs
from .augmented import augmented_accuracy
from .inference import training_operations
from .loop import Fit, Row, Task, evaluator, fit
from .programs import TrainState, split
from .recipes import Recipe, make_task

CURVES = ("loss", "train_accuracy", "accuracy_w", "accuracy_u", "zeros")
SAVE_EVERY = 20.0
"""Seconds between checkpoints of a run; saving 100 MB takes about a second."""
Study = dict[str, list[Recipe]]
"""Runs by label; those with the same label differ only in the seed."""
Outcomes = dict[str, list[Facts]]
"""Finished runs by label, see ``Runs.result``."""
Watch = Callable[[Recipe, Row], None]


class Locked(Exception):
    """Another process is training this run."""


class Runs:
    """The runs in a folder.

    Args:
      folder: holds NAME.json (finished run), NAME.npz (its sparse weights) and NAME/ (checkpoints) for each run.
      load: function that returns the images; called if a run must be trained.
      watch: called after each epoch.
      time_limit: seconds from now after which no epoch starts; None for no limit.
      logs: where ``numbers`` of each epoch are written; None for nowhere.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[], Data],
        watch: Watch = lambda recipe, row: None,
        time_limit: float | None = None,
        logs: Logs | None = None,
    ) -> None:
        self.folder = folder
        self.load = functools.cache(load)
        self.watch, self.logs = watch, logs
        self.deadline = None if time_limit is None else time.monotonic() + time_limit

    def result(self, recipe: Recipe) -> Facts:
        """Returns settings, results and curves of a run; trains it if it is not finished.

        Raises:
          OutOfTime: the time limit was reached.
          Locked: another process is training the run.
          Diverged: the loss is no longer finite.
        """
        path = self.path(recipe)
        finished = read(path)
        if finished is not None:
            return finished
        with self._lock(recipe):
            return read(path) or self._train(recipe, path)

    def path(self, recipe: Recipe) -> Path:
        """Returns the path of the finished run."""
        return self.folder / f"{recipe.name()}.json"

    @contextlib.contextmanager
    def _lock(self, recipe: Recipe) -> Iterator[None]:
        path = self.folder / ".locks" / recipe.name()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with alone(path) as locked:
            if not locked:
                raise Locked(path.name)
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

        def log(state: TrainState, row: Row) -> None:
            if self.logs:
                self.logs.write(recipe.name(), row["epoch"], numbers(state, row))

        checkpoints = path.with_suffix("")
        end = fit(
            task,
            epochs=recipe.epochs,
            batch=recipe.batch,
            key=recipe.keys()[1],
            folder=checkpoints,
            on_epoch=on_epoch,
            log=log,
            settings=recipe.settings(),
            stop=lambda: self.deadline is not None and time.monotonic() > self.deadline,
            save_every=SAVE_EVERY,
            evaluate_every=recipe.evaluate_every,
        )
        result = outcome(recipe, task, data, end, seconds)
        rv.save_npz(path.with_suffix(".npz"), {"params": end.u, "rest": end.rest_u})
        write_whole(path, json.dumps(result) + "\n")
        shutil.rmtree(checkpoints)
        return result

    def weights(self, recipe: Recipe) -> tuple[optax.Params, PyTree]:
        """Returns u and the rest of the network of a run; trains it if its weights are missing.

        Raises:
          OutOfTime, Locked, Diverged: see ``result``.
        """
        path = self.path(recipe)
        if not path.with_suffix(".npz").exists():
            # Published runs have no weights; the file of the run is kept until it is trained again.
            with self._lock(recipe):
                self._train(recipe, path)
        _, params, rest = split(recipe.make_network())
        loaded = rv.load_npz(path.with_suffix(".npz"), {"params": params, "rest": rest})
        return loaded["params"], loaded["rest"]


def numbers(state: TrainState, row: Row) -> dict[str, float]:
    """Returns what was measured after an epoch, and ``rv.scalars`` but for the sparsities, which are among it."""
    found = {name: value for name, value in row.items() if isinstance(value, float)}
    found |= {f"zeros/{name}": value for name, value in (row["zeros_by_leaf"] or {}).items()}
    if splitting_states(state.opt_state):
        scalars = rv.scalars(state.opt_state, state.params)
        found |= {name: float(value) for name, value in scalars.items() if not name.startswith("sparsity")}
    return found


def read(path: Path) -> Facts | None:
    """Returns a finished run, or None if the file does not exist.

    Raises:
      BadInput: the file does not hold a finished run.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if not {"settings", "curves"} <= result.keys():
            raise ValueError
        return dict(result)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError):
        raise BadInput(f"{path} must hold a finished run; remove it to train again") from None


def outcome(recipe: Recipe, task: Task, data: Data, end: Fit, seconds: Sequence[float]) -> Facts:
    """Returns the record of a finished run: settings, results and curves.

    A run on all images has no validation accuracy, and its curves are of the test images. Its ``best_epoch_on_test``
    holds the best evaluated epoch, as chosen by the authors' released code. That estimate is too high, and nothing may
    be selected by it.

    Args:
      recipe: the recipe.
      task: its task.
      data: its images; the test images are used only here.
      end: result of the training.
      seconds: seconds of each epoch trained by this process.
    """
    accuracy = evaluator(task)
    zeros = rv.sparsity(end.u)
    last, held_out = end.history[-1], recipe.train_on == "part"
    values = {name: [row[name] for row in end.history] for name in CURVES}
    curves = {name: [x if x is None else round(x, 5) for x in column] for name, column in values.items()}
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
    if recipe.speedrun:
        seen = recipe.epochs * (len(task.train.labels) // recipe.batch) * recipe.batch
        result |= {
            "augmented_test_accuracy_u": augmented_accuracy(task, end.u, end.rest_u, data.test),
            "operations": training_operations(task.network, data.test.images.shape[1:], seen),
        }
    if not held_out:
        evaluated = {name: [x for x in curves[name] if x is not None] for name in ("accuracy_u", "accuracy_w")}
        best = {name: max(values) for name, values in evaluated.items()}
        result["best_epoch_on_test"] = {**best, "evaluated_epochs": len(evaluated["accuracy_u"])}
    return result
