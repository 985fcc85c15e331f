"""Compiled programs of a training: step, epoch, evaluation.

Each is compiled once for all runs with the same network and chain. On an accelerator an epoch, or a pass over a data
set, is a single program (``lax.scan``). On a CPU it is a Python loop over compiled steps: inside ``scan`` XLA's CPU
backend does not use its fast convolutions, and a step takes ten times as long.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from rvsmjax._pytree import PyTree

from ..data.labelled import Labelled
from .augment import alternated
from .settings import Network

EVALUATED = 1000
"""Batch size of an evaluation."""
SETTLED, SETTLE_STEPS = 250, 20
"""Batch size and number of batches for the running means of u."""

Carry = TypeVar("Carry")
Part = TypeVar("Part")

Prepare = Callable[[Array, Array, bool], Array]
"""Function (images, key, augment) -> input of the network."""


class TrainState(NamedTuple):
    """State of a training; ``rest`` holds the variables that are not parameters, such as running means."""

    params: optax.Params
    rest: PyTree
    opt_state: optax.OptState


Graph = nnx.GraphDef[Network]
"""A network without its values."""
Update = Callable[[optax.Updates, optax.OptState, optax.Params], tuple[optax.Updates, optax.OptState]]
"""``update`` of a chain."""
Restart = Callable[[optax.OptState], optax.OptState]
Step = Callable[[TrainState, Array, Labelled, Array, Array, Array], tuple[TrainState, Array]]
Epoch = Callable[[TrainState, Labelled, Array, Array], tuple[TrainState, Array]]


def split(network: Network) -> tuple[Graph, optax.Params, PyTree]:
    """Returns graph, parameters and rest of a network."""
    graph, params, *(rest,) = nnx.split(network, nnx.Param, ...)
    return graph, params, rest


def lowerable(function: Callable[..., object]) -> jax.stages.Wrapped:
    """Returns a function that is a single program, as a type that can be lowered.

    Raises:
      ValueError: the function is a Python loop over programs.
    """
    if not isinstance(function, jax.stages.Wrapped):
        raise ValueError("programs must be made with whole=True to be lowered, got a loop over compiled steps")
    return function


def scans() -> bool:
    """Returns whether an epoch is a single program by default: on any device except a CPU."""
    return jax.default_backend() != "cpu"


@functools.cache
def make_step(graph: Graph, update: Update, prepare: Prepare, batch: int, label_smoothing: float = 0.0) -> Step:
    """Returns the compiled step (state, sums, data, order, i, key) -> (state, sums) on batch i of the order.

    ``sums`` accumulates the loss and the number of correct predictions; state and sums are donated.
    """
    return jax.jit(_step(graph, update, prepare, batch, label_smoothing), donate_argnums=(0, 1))


@functools.cache
def make_epoch(
    graph: Graph,
    update: Update,
    prepare: Prepare,
    batch: int,
    restart: Restart | None = None,
    whole: bool = False,
    label_smoothing: float = 0.0,
    alternating: bool = False,
) -> Epoch:
    """Returns the function (state, data, key, epoch) -> (state, sums), which donates the state.

    Args:
      graph: graph of the network in training mode.
      update: ``update`` of the chain.
      prepare: see ``Prepare``.
      batch: images per step; an incomplete last batch is dropped.
      restart: applied to the state of the chain before the first step; None for no change.
      whole: whether the epoch is a single program; otherwise each step is one.
      label_smoothing: see ``cross_entropy``.
      alternating: whether the images are mirrored in every other epoch, see ``alternated``.
    """

    def mirrored(data: Labelled, key: Array, epoch: Array) -> Labelled:
        return data._replace(images=alternated(data.images, key, epoch)) if alternating else data

    def shuffled(data: Labelled, key: Array, epoch: Array) -> tuple[Array, Array]:
        order_key, augment_key = jax.random.split(jax.random.fold_in(key, epoch))
        return jax.random.permutation(order_key, len(data.labels)), augment_key

    def restarted(state: TrainState) -> TrainState:
        return state if restart is None else state._replace(opt_state=restart(state.opt_state))

    def loop(state: TrainState, data: Labelled, key: Array, epoch: Array) -> tuple[TrainState, Array]:
        order, augment_key = shuffled(data, key, epoch)
        data = mirrored(data, key, epoch)
        state, sums = restarted(state), jnp.zeros(2)
        step = make_step(graph, update, prepare, batch, label_smoothing)
        for i in range(len(order) // batch):
            state, sums = step(state, sums, data, order, jnp.int32(i), augment_key)
        return state, sums

    def scan(state: TrainState, data: Labelled, key: Array, epoch: Array) -> tuple[TrainState, Array]:
        order, augment_key = shuffled(data, key, epoch)
        data = mirrored(data, key, epoch)
        step = _step(graph, update, prepare, batch, label_smoothing)

        def body(carry: tuple[TrainState, Array], i: Array) -> tuple[tuple[TrainState, Array], None]:
            return step(*carry, data, order, i, augment_key), None

        steps = jnp.arange(len(order) // batch, dtype=jnp.int32)
        return jax.lax.scan(body, (restarted(state), jnp.zeros(2)), steps)[0]

    return jax.jit(scan, donate_argnums=0) if whole else loop


def _step(graph: Graph, update: Update, prepare: Prepare, batch: int, label_smoothing: float) -> Step:
    def step(
        state: TrainState, sums: Array, data: Labelled, order: Array, i: Array, key: Array
    ) -> tuple[TrainState, Array]:
        rows = jax.lax.dynamic_slice_in_dim(order, i * batch, batch)
        x = prepare(data.images[rows], jax.random.fold_in(key, i), True)
        labels = data.labels[rows]

        def loss(params: optax.Params) -> tuple[Array, tuple[PyTree, Array]]:
            network = nnx.merge(graph, params, state.rest, copy=True)
            scores = network(x).astype(jnp.float32)
            rest = split(network)[2]
            losses = cross_entropy(scores, labels, label_smoothing)
            return losses.mean(), (rest, jnp.stack([losses.sum(), jnp.sum(scores.argmax(-1) == labels)]))

        grads, (rest, batch_sums) = jax.grad(loss, has_aux=True)(state.params)
        updates, opt_state = update(grads, state.opt_state, state.params)
        return TrainState(optax.apply_updates(state.params, updates), rest, opt_state), sums + batch_sums

    return step


def cross_entropy(scores: Array, labels: Array, smoothing: float = 0.0) -> Array:
    """Returns the cross entropy of each row of scores, with a share ``smoothing`` of its label over all classes."""
    if not smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(scores, labels)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, scores.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(scores, targets)


@functools.cache
def make_count(graph: Graph, prepare: Prepare, whole: bool) -> Callable[[optax.Params, PyTree, Labelled], Array]:
    """Returns the function (params, rest, data) -> number of correct predictions.

    Args:
      graph: graph of the network in evaluation mode.
      prepare: see ``Prepare``.
      whole: whether a pass over the data is a single program.
    """

    def count(params: optax.Params, rest: PyTree, data: Labelled) -> Array:
        def add(total: Array, part: Labelled) -> Array:
            return total + _right(graph, prepare, params, rest, part)

        return _fold(add, jnp.int32(0), data, EVALUATED, whole)

    return jax.jit(count) if whole else count


@functools.cache
def make_settle(graph: Graph, prepare: Prepare, whole: bool) -> Callable[[optax.Params, PyTree, Array], PyTree]:
    """Returns the function (u, rest, images) -> rest, which moves the running means towards those of u.

    Args:
      graph: graph of the network in training mode.
      prepare: see ``Prepare``.
      whole: whether a pass over the images is a single program.
    """

    def settle(u: optax.Params, rest: PyTree, images: Array) -> PyTree:
        def forward(rest: PyTree, part: Array) -> PyTree:
            return _forward(graph, prepare, u, rest, part)

        return _fold(forward, rest, images[: SETTLED * SETTLE_STEPS], SETTLED, whole)

    return jax.jit(settle) if whole else settle


def _fold(function: Callable[[Carry, Part], Carry], start: Carry, data: Part, size: int, whole: bool) -> Carry:
    """Folds ``function(carry, part)`` over parts of ``size`` rows, including a shorter last one."""
    n = len(jax.tree.leaves(data)[0])
    if not whole:
        for i in range(0, n, size):
            start = function(start, jax.tree.map(lambda a, i=i: a[i : i + size], data))
        return start
    full = n // size
    if full:
        parts = jax.tree.map(lambda a: a[: full * size].reshape(full, size, *a.shape[1:]), data)
        start = jax.lax.scan(lambda carry, part: (function(carry, part), None), start, parts)[0]
    return function(start, jax.tree.map(lambda a: a[full * size :], data)) if n % size else start


@functools.partial(jax.jit, static_argnums=(0, 1))
def _right(graph: Graph, prepare: Prepare, params: optax.Params, rest: PyTree, data: Labelled) -> Array:
    scores = nnx.merge(graph, params, rest)(prepare(data.images, jax.random.key(0), False))
    return jnp.sum(scores.argmax(-1) == data.labels)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _forward(graph: Graph, prepare: Prepare, params: optax.Params, rest: PyTree, images: Array) -> PyTree:
    network = nnx.merge(graph, params, rest, copy=True)
    network(prepare(images, jax.random.key(0), False))
    return split(network)[2]
