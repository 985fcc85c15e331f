"""Training loop of all deep experiments.

The state after an epoch depends only on the state before it and on the number of the epoch. So a killed run, resumed
from its last checkpoint, ends in the same bits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from rvsmjax._pytree import PyTree

from ..data.labelled import Labelled
from ..records.checkpoints import Checkpoints
from ..records.folder import BadInput, Facts
from .evaluation import Evaluation, Settle, make_look, make_settle_of, sparse
from .programs import EVALUATED as EVALUATED
from .programs import Epoch, Prepare, Restart, lowerable, make_count, make_epoch, scans, split
from .programs import TrainState as TrainState
from .settings import Network

Row = Facts
"""Metrics of an epoch."""


class Diverged(BadInput):
    """The loss is no longer finite; the last checkpoint is kept."""


class OutOfTime(Exception):
    """The training stopped before its last epoch; if it has checkpoints, it can resume."""


@dataclasses.dataclass(frozen=True)
class Task:
    """Network, optimizer and data of a training.

    Attributes:
      network: initial network, in training mode.
      optimizer: optax chain, including the learning rate.
      train: training examples.
      held_out: examples for the evaluation after an epoch.
      prepare: see ``Prepare``.
      overwrite: whether to set the parameters to u at the end of each epoch.
      restart: applied to the state of the chain before each epoch; None for no change.
      settle: whether to estimate running means for u; otherwise u is evaluated with those of w.
      label_smoothing: see ``cross_entropy``.
      alternating: whether the images are mirrored in every other epoch, see ``alternated``.
    """

    network: Network
    optimizer: optax.GradientTransformation
    train: Labelled
    held_out: Labelled
    prepare: Prepare
    overwrite: bool = False
    restart: Restart | None = None
    settle: bool = True
    label_smoothing: float = 0.0
    alternating: bool = False


class Fit(NamedTuple):
    """Result of a training: final state, u, rest of the network for u (such as running means), metrics by epoch."""

    state: TrainState
    u: optax.Params
    rest_u: PyTree
    history: list[Row]


@dataclasses.dataclass(frozen=True)
class Programs:
    """Compiled functions of a task, shared by all tasks with the same network and chain.

    Attributes:
      epoch: see ``make_epoch``.
      look: function (state, training images, held-out examples) -> ``Evaluation``.
      sparse: function state -> u.
      settle: function (state, u, training images) -> rest of the network for u.
      count: see ``make_count``.
      whole: whether each function is a single program, as on accelerators.
    """

    epoch: Epoch
    look: Callable[[TrainState, Array, Labelled], Evaluation]
    sparse: Callable[[TrainState], optax.Params]
    settle: Settle
    count: Callable[[optax.Params, PyTree, Labelled], Array]
    whole: bool


def make_programs(task: Task, batch: int, whole: bool | None = None) -> Programs:
    """Returns the functions of a task.

    Args:
      task: network, optimizer and data.
      batch: images per step.
      whole: whether an epoch, and a pass over a data set, is a single program; default: on accelerators only.
    """
    whole = scans() if whole is None else whole
    graph = split(task.network)[0]
    network = nnx.clone(task.network)
    network.eval()
    evaluated = split(network)[0]
    has_means = bool(jax.tree.leaves(nnx.state(task.network, nnx.BatchStat)))
    settles = task.settle and has_means
    return Programs(
        epoch=make_epoch(
            graph,
            task.optimizer.update,
            task.prepare,
            batch,
            task.restart,
            whole,
            task.label_smoothing,
            task.alternating,
        ),
        look=make_look(graph, evaluated, task.prepare, settles, whole),
        sparse=_sparse if whole else sparse,
        settle=make_settle_of(graph, task.prepare, settles, whole),
        count=make_count(evaluated, task.prepare, whole),
        whole=whole,
    )


def start(task: Task) -> TrainState:
    """Returns the initial state, as a copy: the first step donates its arguments."""
    _, params, rest = split(task.network)
    return jax.tree.map(jnp.copy, TrainState(params, rest, task.optimizer.init(params)))


def compile_all(task: Task, programs: Programs, state: TrainState, key: Array, *others: Labelled) -> None:
    """Compiles the programs of ``fit`` and the evaluation on ``others`` without running them.

    Later calls with arguments of the same shapes use the compiled programs.

    Raises:
      ValueError: ``programs.whole`` is False.
    """
    lowered = [
        lowerable(programs.epoch).lower(state, task.train, key, jnp.int32(0)),
        lowerable(programs.look).lower(state, task.train.images, task.held_out),
        *(lowerable(programs.count).lower(state.params, state.rest, other) for other in others),
    ]
    if task.overwrite:
        lowered.append(lowerable(programs.sparse).lower(state))
    for program in lowered:
        program.compile()


def fit(
    task: Task,
    *,
    epochs: int,
    batch: int,
    key: Array,
    folder: Path | None,
    on_epoch: Callable[[Row], None] = lambda row: None,
    log: Callable[[TrainState, Row], None] = lambda state, row: None,
    settings: Facts | None = None,
    stop: Callable[[], bool] = lambda: False,
    save_every: float = 0.0,
    evaluate_every: int = 1,
    programs: Programs | None = None,
    fresh: TrainState | None = None,
) -> Fit:
    """Trains for ``epochs`` epochs; resumes from the last checkpoint in ``folder``.

    Args:
      task: network, optimizer and data.
      epochs: total number of epochs.
      batch: images per step; an incomplete last batch is dropped.
      key: random key for the order of the images and the augmentation.
      folder: folder of the checkpoints and ``metrics.jsonl``; None to write nothing.
      on_epoch: called with the metrics of each epoch.
      log: called before it, with the state after the epoch too, which it must not keep.
      settings: settings that a run in ``folder`` must have to be resumed.
      stop: called after each epoch except the last; True stops the training.
      save_every: minimum seconds between checkpoints; the epoch of a stop and the last epoch are always saved.
      evaluate_every: evaluate every so many epochs, and after the last; the metrics of other epochs have None for
        accuracies and zeros.
      programs: default: ``make_programs(task, batch)``.
      fresh: initial state, donated; default: ``start(task)``.

    Raises:
      BadInput: ``folder`` holds a run with different settings or more epochs, or ``batch`` exceeds the training set.
      Diverged: the loss is no longer finite.
      OutOfTime: ``stop`` returned True.
    """
    if not 1 <= batch <= len(task.train.labels):
        raise BadInput(f"batch must be in [1, {len(task.train.labels):,}], the training images, got {batch}")
    programs = programs or make_programs(task, batch)
    state = fresh or start(task)
    history: list[Row] = []
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(folder, settings or {})) if folder else None
        if checkpoints:
            state, history = checkpoints.restore(state)
        if len(history) > epochs:
            raise BadInput(f"epochs must be at least {len(history)} as in the run in {folder}, got {epochs}")
        if len(history) == epochs:
            u = state.params if task.overwrite else programs.sparse(state)
            return Fit(state, u, programs.settle(state, u, task.train.images), history)
        saved = time.monotonic()
        for epoch in range(len(history), epochs):
            state, sums = programs.epoch(state, task.train, key, jnp.int32(epoch))
            loss, right = (sums / (len(task.train.labels) // batch * batch)).tolist()
            if not math.isfinite(loss):
                kept = f"; {folder} keeps the last good checkpoint" if folder else ""
                raise Diverged(f"the loss is {loss} in epoch {epoch + 1}{kept}")
            last = epoch + 1 == epochs
            evaluation = None
            if last or (epoch + 1) % evaluate_every == 0:
                evaluation = programs.look(state, task.train.images, task.held_out)
            row = {"epoch": epoch + 1, "loss": loss, "train_accuracy": right} | _measures(evaluation, task.held_out)
            history.append(row)
            if task.overwrite:
                state = state._replace(params=evaluation.u if evaluation else programs.sparse(state))
            stopping = not last and stop()
            if checkpoints and (stopping or last or time.monotonic() - saved >= save_every):
                checkpoints.save(state, history)
                saved = time.monotonic()
            log(state, row)
            on_epoch(row)
            if stopping:
                raise OutOfTime
        assert evaluation  # of the last epoch
        return Fit(state, evaluation.u, evaluation.rest_u, history)


def _measures(evaluation: Evaluation | None, held_out: Labelled) -> Row:
    if evaluation is None:
        return dict.fromkeys(("accuracy_w", "accuracy_u", "zeros", "zeros_by_leaf"))
    right_w, right_u, zeros = jax.device_get((evaluation.right_w, evaluation.right_u, evaluation.zeros))
    return {
        "accuracy_w": int(right_w) / len(held_out.labels),
        "accuracy_u": int(right_u) / len(held_out.labels),
        "zeros": float(zeros.total.fraction),
        "zeros_by_leaf": {name: float(leaf.fraction) for name, leaf in zeros.leaves.items()},
    }


_sparse = jax.jit(sparse)


def evaluator(task: Task, whole: bool | None = None) -> Callable[[optax.Params, PyTree, Labelled], float]:
    """Returns a function (params, rest, data) -> accuracy of the network."""
    network = nnx.clone(task.network)
    network.eval()
    count = make_count(split(network)[0], task.prepare, scans() if whole is None else whole)
    return lambda params, rest, data: int(count(params, rest, data)) / len(data.labels)
