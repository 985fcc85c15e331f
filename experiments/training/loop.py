"""Training a network to a fixed number of epochs: every deep experiment runs this loop.

The state after an epoch is a function of the state before it and of the epoch's number alone. Where it is kept on disk,
a run that was killed goes on from its last saved epoch to the bits it would have had.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
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

import rvsmjax as rv
from rvsmjax._pytree import PyTree
from rvsmjax.transforms import Sparsity, splitting_states

from ..data.labelled import Labelled
from ..records.checkpoints import Checkpoints
from ..records.folder import BadInput, Facts
from .programs import EVALUATED as EVALUATED
from .programs import Epoch, Graph, Prepare, Restart, lowerable, make_count, make_epoch, make_settle, scans, split
from .programs import TrainState as TrainState
from .programs import make_step as make_step
from .settings import Network

Row = Facts
"""The metrics of an epoch."""
Settle = Callable[[TrainState, optax.Params, Array], PyTree]


class Diverged(BadInput):
    """The loss was no longer finite; the last checkpoint is kept."""


class OutOfTime(Exception):
    """The training was stopped before its last epoch; it goes on from its checkpoint where it has one."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained on what.

    Attributes:
      network: its numbers at the start; in training mode.
      optimizer: an optax chain, learning rate included.
      train: examples to learn from.
      held_out: examples on which the network is evaluated after an epoch.
      prepare: makes the network's input of a batch of images and a key; ``train`` says whether to augment.
      overwrite: whether the parameters become u at the end of each epoch.
      restart: applied to the state of the chain before each epoch; None: nothing is.
      settle: whether running means are estimated anew for u; else u is evaluated with those of w.
    """

    network: Network
    optimizer: optax.GradientTransformation
    train: Labelled
    held_out: Labelled
    prepare: Prepare
    overwrite: bool = False
    restart: Restart | None = None
    settle: bool = True


class Fit(NamedTuple):
    """The end of a training: its state, u with the running means that go with it, and one dict of metrics an epoch."""

    state: TrainState
    u: optax.Params
    rest_u: PyTree
    history: list[Row]


class Look(NamedTuple):
    """What is measured after an epoch, on the device.

    Attributes:
      u: parameters with the split leaves thresholded.
      rest_u: the rest of the network that goes with u.
      right_w, right_u: numbers of right answers on the examples held out.
      zeros: ``rv.sparsity`` of u.
    """

    u: optax.Params
    rest_u: PyTree
    right_w: Array
    right_u: Array
    zeros: Sparsity


@dataclasses.dataclass(frozen=True)
class Programs:
    """The compiled functions of a task, shared by all tasks of the same network and chain.

    Attributes:
      epoch: see ``make_epoch``.
      look: (state, training images, examples held out) -> ``Look``.
      sparse: state -> u.
      settle: (state, u, training images) -> the rest of the network that goes with u.
      count: see ``make_count``.
      whole: whether each of them is one program, as on accelerators.
    """

    epoch: Epoch
    look: Callable[[TrainState, Array, Labelled], Look]
    sparse: Callable[[TrainState], optax.Params]
    settle: Settle
    count: Callable[[optax.Params, PyTree, Labelled], Array]
    whole: bool


def make_programs(task: Task, batch: int, whole: bool | None = None) -> Programs:
    """Returns the functions of a task.

    Args:
      task: network, optimizer and data.
      batch: images a step.
      whole: whether an epoch, and a pass over a data set, is one program; default: on accelerators.
    """
    whole = scans() if whole is None else whole
    graph = split(task.network)[0]
    network = nnx.clone(task.network)
    network.eval()
    evaluated = split(network)[0]
    has_means = bool(jax.tree.leaves(nnx.state(task.network, nnx.BatchStat)))
    settles = task.settle and has_means
    return Programs(
        epoch=make_epoch(graph, task.optimizer.update, task.prepare, batch, task.restart, whole),
        look=_make_look(graph, evaluated, task.prepare, settles, whole),
        sparse=_sparse if whole else sparse,
        settle=_make_settle(graph, task.prepare, settles, whole),
        count=make_count(evaluated, task.prepare, whole),
        whole=whole,
    )


def start(task: Task) -> TrainState:
    """Returns the state at the start, in copies: the first step gives the memory of its arguments away."""
    _, params, rest = split(task.network)
    return jax.tree.map(jnp.copy, TrainState(params, rest, task.optimizer.init(params)))


def compile_all(task: Task, programs: Programs, state: TrainState, key: Array, *others: Labelled) -> None:
    """Compiles what ``fit`` will call for whole epochs, and the evaluation on ``others``; runs nothing.

    A later call with arguments of the same shapes finds the compiled program.

    Raises:
      ValueError: ``programs`` are not of whole epochs.
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
    settings: Facts | None = None,
    stop: Callable[[], bool] = lambda: False,
    save_every: float = 0.0,
    evaluate_every: int = 1,
    programs: Programs | None = None,
    fresh: TrainState | None = None,
) -> Fit:
    """Trains for ``epochs`` epochs and returns the end; goes on from the last epoch that ``folder`` keeps.

    Args:
      task: network, optimizer and data.
      epochs: number of epochs in all.
      batch: images a step; the images of an epoch that fill no batch are left out, other ones each time.
      key: root of the order of the images and of the augmentation.
      folder: of the checkpoints and ``metrics.jsonl``; None: nothing is kept.
      on_epoch: called with each new row of metrics.
      settings: what a run in ``folder`` must have been started with to be gone on with.
      stop: asked after each epoch but the last whether to stop there.
      save_every: seconds that are to pass between two checkpoints; the epoch of a stop and the last are always kept.
      evaluate_every: epochs between two evaluations, >= 1; the last epoch always has one. In the row of an epoch
        without, accuracies and zeros are None.
      programs: default: ``make_programs(task, batch)``.
      fresh: the state at the start, given away; default: ``start(task)``.

    Raises:
      BadInput: ``folder`` holds a run of other settings, or one that is further on; a batch larger than the set.
      Diverged: the loss is no longer finite.
      OutOfTime: ``stop`` said so.
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
            raise BadInput(f"epochs must be at least {len(history)}, which {folder} has already, got {epochs}")
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
            look = None
            if last or (epoch + 1) % evaluate_every == 0:
                look = programs.look(state, task.train.images, task.held_out)
            row = {"epoch": epoch + 1, "loss": loss, "train_accuracy": right} | _measures(look, task.held_out)
            history.append(row)
            if task.overwrite:
                state = state._replace(params=look.u if look else programs.sparse(state))
            stopping = not last and stop()
            if checkpoints and (stopping or last or time.monotonic() - saved >= save_every):
                checkpoints.save(state, history)
                saved = time.monotonic()
            on_epoch(row)
            if stopping:
                raise OutOfTime
        assert look  # after the last epoch
        return Fit(state, look.u, look.rest_u, history)


def _measures(look: Look | None, held_out: Labelled) -> Row:
    if look is None:
        return dict.fromkeys(("accuracy_w", "accuracy_u", "zeros", "zeros_by_leaf"))
    right_w, right_u, zeros = jax.device_get((look.right_w, look.right_u, look.zeros))
    return {
        "accuracy_w": int(right_w) / len(held_out.labels),
        "accuracy_u": int(right_u) / len(held_out.labels),
        "zeros": float(zeros.total.fraction),
        "zeros_by_leaf": {name: float(leaf.fraction) for name, leaf in zeros.leaves.items()},
    }


def sparse(state: TrainState) -> optax.Params:
    """Returns u, or the parameters themselves where the chain splits nothing."""
    return rv.sparse_params(state.opt_state, state.params) if splitting_states(state.opt_state) else state.params


_sparse = jax.jit(sparse)


def _make_settle(graph: Graph, prepare: Prepare, settles: bool, whole: bool) -> Settle:
    settle = make_settle(graph, prepare, whole)
    return lambda state, u, images: (
        settle(u, state.rest, images) if settles and splitting_states(state.opt_state) else state.rest
    )


@functools.cache
def _make_look(
    graph: Graph, evaluated: Graph, prepare: Prepare, settles: bool, whole: bool
) -> Callable[[TrainState, Array, Labelled], Look]:
    count, settle = make_count(evaluated, prepare, whole), _make_settle(graph, prepare, settles, whole)

    def look(state: TrainState, images: Array, held_out: Labelled) -> Look:
        u = sparse(state)
        rest_u = settle(state, u, images)
        right_w = count(state.params, state.rest, held_out)
        right_u = count(u, rest_u, held_out) if splitting_states(state.opt_state) else right_w
        return Look(u, rest_u, right_w, right_u, rv.sparsity(u))

    return jax.jit(look) if whole else look


def evaluator(task: Task, whole: bool | None = None) -> Callable[[optax.Params, PyTree, Labelled], float]:
    """Returns a function (params, rest, data) -> share of examples that the network with these numbers gets right."""
    network = nnx.clone(task.network)
    network.eval()
    count = make_count(split(network)[0], task.prepare, scans() if whole is None else whole)
    return lambda params, rest, data: int(count(params, rest, data)) / len(data.labels)
