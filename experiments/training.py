"""Training a network to a fixed number of epochs: every deep experiment runs this loop.

The state after an epoch is a function of the state before it and of the epoch's number alone, and is kept on disk; so a
run that was killed goes on from its last whole epoch to the bits it would have had.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

import rvsmjax as rv
from experiments.checkpoints import Checkpoints
from experiments.record import BadInput
from rvsmjax.transforms import splitting_states

EVALUATED = 1000
"""Images in a batch of an evaluation."""
SETTLED, SETTLE_STEPS = 250, 20
"""Images in a batch, and batches, by which running means are brought from w to u."""

Row = dict[str, Any]
"""The metrics of an epoch."""


class Diverged(BadInput):
    """The loss was no longer finite; the last checkpoint is kept."""


class OutOfTime(Exception):
    """The training was to stop before its last epoch; it goes on from its checkpoint next time."""


class Labelled(NamedTuple):
    """Examples on the device: ``images`` of shape (n, ...), ``labels`` of shape (n,)."""

    images: Array
    labels: Array


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained on what.

    Attributes:
      network: its numbers at the start; in training mode.
      optimizer: an optax chain, learning rate included.
      train: examples to learn from.
      held_out: examples to look at after each epoch.
      prepare: makes the network's input of a batch of images and a key; ``train`` says whether to augment.
      overwrite: whether the parameters become u at the end of each epoch.
    """

    network: nnx.Module
    optimizer: optax.GradientTransformation
    train: Labelled
    held_out: Labelled
    prepare: Callable[[Array, Array, bool], Array]
    overwrite: bool = False


class TrainState(NamedTuple):
    """All that changes in training; ``rest`` holds what is no parameter, such as running means."""

    params: Any
    rest: Any
    opt_state: Any


class Fit(NamedTuple):
    """The end of a training: its state, u with the running means that go with it, and one dict of metrics an epoch."""

    state: TrainState
    u: Any
    rest_u: Any
    history: list[Row]


def fit(
    task: Task,
    *,
    epochs: int,
    batch: int,
    key: Array,
    folder: Path,
    on_epoch: Callable[[Row], None] = lambda row: None,
    settings: dict[str, Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
    save_every: float = 0.0,
) -> Fit:
    """Trains for ``epochs`` epochs and returns the end; goes on from the last epoch that ``folder`` keeps.

    Args:
      task: network, optimizer and data.
      epochs: number of epochs in all.
      batch: images a step; the images of an epoch that fill no batch are left out, other ones each time.
      key: root of the order of the images and of the augmentation.
      folder: of the checkpoints and ``metrics.jsonl``.
      on_epoch: called with each new row of metrics.
      settings: what a run in ``folder`` must have been started with to be gone on with.
      stop: asked after each epoch but the last whether to stop there.
      save_every: seconds that are to pass between two checkpoints; the epoch of a stop and the last are always kept.

    Raises:
      BadInput: ``folder`` holds a run of other settings, or one that is further on; a batch larger than the set.
      Diverged: the loss is no longer finite.
      OutOfTime: ``stop`` said so.
    """
    if not 1 <= batch <= len(task.train.labels):
        raise BadInput(f"batch must be in [1, {len(task.train.labels):,}], the training images, got {batch}")
    graph, params, rest = nnx.split(task.network, nnx.Param, ...)
    with Checkpoints(folder, settings or {}) as checkpoints:
        # Copies: the first step gives the memory of its arguments away, and the network's numbers are not ours.
        fresh = jax.tree.map(jnp.copy, TrainState(params, rest, task.optimizer.init(params)))
        state, history = checkpoints.restore(fresh)
        if len(history) > epochs:
            raise BadInput(f"epochs must be at least {len(history)}, which {folder} has already, got {epochs}")
        step = make_step(graph, task.optimizer.update, task.prepare, batch)
        accuracy, settle = evaluator(task), _settler(graph, task)
        if len(history) == epochs:
            u = state.params if task.overwrite else sparse(state)
            return Fit(state, u, settle(state, u), history)
        saved = time.monotonic()
        for epoch in range(len(history), epochs):
            order_key, augment_key = jax.random.split(jax.random.fold_in(key, epoch))
            order = jax.random.permutation(order_key, len(task.train.labels))
            total = jnp.zeros(2)
            for i in range(len(order) // batch):
                state, total = step(state, total, task.train, order, jnp.int32(i), augment_key)
            loss, right = (total / (len(order) // batch * batch)).tolist()
            if not math.isfinite(loss):
                raise Diverged(f"the loss is {loss} in epoch {epoch + 1}; {folder} keeps the last good checkpoint")
            u = sparse(state)
            rest_u = settle(state, u)
            zeros = rv.sparsity(u)
            row = {
                "epoch": epoch + 1,
                "loss": loss,
                "train_accuracy": right,
                "accuracy_w": accuracy(state.params, state.rest, task.held_out),
                "accuracy_u": accuracy(u, rest_u, task.held_out),
                "zeros": float(zeros.total.fraction),
                "zeros_by_leaf": {name: float(leaf.fraction) for name, leaf in zeros.leaves.items()},
            }
            history.append(row)
            if task.overwrite:
                state = state._replace(params=u)
            stopping = epoch + 1 < epochs and stop()
            if stopping or epoch + 1 == epochs or time.monotonic() - saved >= save_every:
                checkpoints.save(state, history)
                saved = time.monotonic()
            on_epoch(row)
            if stopping:
                raise OutOfTime
        return Fit(state, u, rest_u, history)


def sparse(state: TrainState) -> Any:
    """Returns u, or the parameters themselves where the chain splits nothing."""
    return rv.sparse_params(state.opt_state, state.params) if splitting_states(state.opt_state) else state.params


def evaluator(task: Task) -> Callable[[Any, Any, Labelled], float]:
    """Returns a function (params, rest, data) -> share of examples that the network with these numbers gets right."""
    network = nnx.clone(task.network)
    network.eval()
    graph, *_ = nnx.split(network, nnx.Param, ...)

    def accuracy(params: Any, rest: Any, data: Labelled) -> float:
        starts = range(0, len(data.labels), EVALUATED)
        parts = [Labelled(*(array[start : start + EVALUATED] for array in data)) for start in starts]
        return sum(int(_right(graph, task.prepare, params, rest, part)) for part in parts) / len(data.labels)

    return accuracy


# What follows is compiled once for all runs of one network and, the step, one optimizer.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _right(graph: Any, prepare: Callable[..., Array], params: Any, rest: Any, data: Labelled) -> Array:
    scores = nnx.merge(graph, params, rest)(prepare(data.images, jax.random.key(0), False))
    return jnp.sum(scores.argmax(-1) == data.labels)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _see(graph: Any, prepare: Callable[..., Array], params: Any, rest: Any, images: Array) -> Any:
    network = nnx.merge(graph, params, rest, copy=True)
    network(prepare(images, jax.random.key(0), False))
    return nnx.split(network, nnx.Param, ...)[2]


def _settler(graph: Any, task: Task) -> Callable[[TrainState, Any], Any]:
    """Returns a function (state, u) -> rest, with the running means of the network whose parameters are u."""
    has_means = bool(jax.tree.leaves(nnx.state(task.network, nnx.BatchStat)))

    def settle(state: TrainState, u: Any) -> Any:
        rest = state.rest
        if not (has_means and splitting_states(state.opt_state)):
            return rest
        for start in range(0, min(SETTLED * SETTLE_STEPS, len(task.train.labels)), SETTLED):
            rest = _see(graph, task.prepare, u, rest, task.train.images[start : start + SETTLED])
        return rest

    return settle


@functools.cache
def make_step(
    graph: Any, update: Callable[..., Any], prepare: Callable[..., Array], batch: int
) -> Callable[..., tuple[TrainState, Array]]:
    """Returns the compiled step (state, sums, data, order, i, key) -> (state, sums), the images taken on the device.

    ``sums`` adds up the losses and the right answers; state and sums are given away.
    """

    def step(
        state: TrainState, total: Array, data: Labelled, order: Array, i: Array, key: Array
    ) -> tuple[TrainState, Array]:
        rows = jax.lax.dynamic_slice_in_dim(order, i * batch, batch)
        x = prepare(data.images[rows], jax.random.fold_in(key, i), True)
        labels = data.labels[rows]

        def loss(params: Any) -> tuple[Array, Any]:
            network = nnx.merge(graph, params, state.rest, copy=True)
            scores = network(x).astype(jnp.float32)
            _, _, rest = nnx.split(network, nnx.Param, ...)
            losses = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
            return losses.mean(), (rest, jnp.stack([losses.sum(), jnp.sum(scores.argmax(-1) == labels)]))

        grads, (rest, sums) = jax.grad(loss, has_aux=True)(state.params)
        updates, opt_state = update(grads, state.opt_state, state.params)
        return TrainState(optax.apply_updates(state.params, updates), rest, opt_state), total + sums

    return jax.jit(step, donate_argnums=(0, 1))
