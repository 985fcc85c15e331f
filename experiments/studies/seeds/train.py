"""One training as a function of a lane's numbers; many lanes of it in one compiled call, or one lane after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

import rvsmjax as rv

from ...data.images import Data
from ...data.labelled import Labelled
from ...penalties.registry import find
from ...records.lanes import Numbers, lane_keys, map_tiles
from ...training.programs import Graph
from .networks import NETWORKS

RAMP = 2 / 3
"""Share of the steps over which λ, or the sparsity, rises to its value."""
LOCKSTEP = {"cpu": 8}
"""Lanes that step together on one device, so that their numbers stay in a core's cache."""
MOST_LOCKSTEP = 1024


class Lane(NamedTuple, Generic[Numbers]):
    """What tells one training from another of its kind; numbers, or arrays with the lanes in front."""

    seed: Numbers
    lam: Numbers
    beta: Numbers
    sparsity: Numbers
    a: Numbers
    learning_rate: Numbers


class Curves(NamedTuple):
    """After each epoch: mean loss of its steps; share of validation images that w and u get right; zeros of u."""

    loss: Array
    accuracy_w: Array
    accuracy_u: Array
    zeros: Array


class Trained(NamedTuple):
    """The end of a training."""

    w: optax.Params
    u: optax.Params
    curves: Curves


Carry = tuple[optax.Params, optax.OptState]


def splitting(penalty: str, lane: Lane[Array], ramp: int) -> optax.GradientTransformation:
    """Returns the library's transformation; ``none`` is ℓ1 with λ = 0, whose u is w."""
    if penalty == "top_k":
        top = rv.TopK(sparsity=rv.cubic_sparsity(lane.sparsity, 0, ramp), scope="global")
        return rv.rvsm(top, 1.0, lane.beta)
    kind = find("l1" if penalty == "none" else penalty)(lane.a)
    lam = jnp.zeros_like(lane.lam) if penalty == "none" else lane.lam
    return rv.rvsm(kind, lambda step: lam * jnp.clip(step / ramp, 0, 1), lane.beta)


def make_training(
    penalty: str, network: str, data: Data, *, epochs: int, batch: int, root: Array
) -> Callable[[Lane[Array]], Trained]:
    """Returns a whole training as a function of one lane, to be compiled: SGD with Nesterov momentum, cosine decay.

    The splitting stands behind the momentum (decoupled). First weights and the order of the images come from
    ``fold_in(root, seed)`` alone, so lanes of one seed share them, whatever their λ and β.

    Args:
      penalty: a name of ``grid.AXES`` or of a penalty; with ``network``, all that needs another compilation.
      network: a name of ``NETWORKS``.
      data: images; the test part is not looked at.
      epochs: number of epochs.
      batch: images a step; those of an epoch that fill no batch are left out, other ones each time.
      root: root of all randomness.
    """
    dtype, count = data.train.images.dtype, len(data.train.labels)
    per_epoch = count // batch
    steps = epochs * per_epoch

    def train(lane: Lane[Array]) -> Trained:
        init_key, order_key = (lane_keys(root, lane.seed[None], stream)[0] for stream in (0, 1))
        graph, w = _draw(network, init_key, dtype)
        optimizer = optax.chain(
            optax.trace(0.9, nesterov=True),
            splitting(penalty, lane, max(1, round(RAMP * steps))),
            optax.scale_by_learning_rate(optax.cosine_decay_schedule(lane.learning_rate, steps)),
        )

        def step(carry: Carry, rows: Array) -> tuple[Carry, Array]:
            w, state = carry

            def loss(w: optax.Params) -> Array:
                scores = nnx.merge(graph, w)(data.train.images[rows])
                return optax.softmax_cross_entropy_with_integer_labels(scores, data.train.labels[rows]).mean()

            value, gradient = jax.value_and_grad(loss)(w)
            updates, state = optimizer.update(gradient, state, w)
            return (optax.apply_updates(w, updates), state), value

        def epoch(carry: Carry, number: Array) -> tuple[Carry, Curves]:
            order = jax.random.permutation(jax.random.fold_in(order_key, number), count)
            carry, losses = jax.lax.scan(step, carry, order[: per_epoch * batch].reshape(per_epoch, batch))
            w, state = carry
            u = rv.sparse_params(state, w)
            right_w, right_u = (_accuracy(graph, params, data.validation) for params in (w, u))
            return carry, Curves(losses.mean(), right_w, right_u, rv.sparsity(u).total.fraction)

        (w, state), curves = jax.lax.scan(epoch, (w, optimizer.init(w)), jnp.arange(epochs))
        return Trained(w, rv.sparse_params(state, w), curves)

    return train


def test_accuracy(network: str, params: optax.Params, test: Labelled) -> np.ndarray:
    """Returns the share of test images that each lane's network with parameters ``params`` gets right."""
    graph, _ = _draw(network, jax.random.key(0), test.images.dtype)
    return np.asarray(jax.jit(jax.vmap(lambda own: _accuracy(graph, own, test)))(params))


def make_together(train: Callable[[Lane[Array]], Trained]) -> Callable[[Lane[np.ndarray]], Trained]:
    """Returns a function that trains all lanes in one compiled call, as NumPy arrays with the lanes in front."""
    batched = jax.vmap(train)

    def together(lanes: Lane[np.ndarray]) -> Trained:
        count, devices = len(lanes.seed), len(jax.local_devices())
        rounds = -(-count // (devices * LOCKSTEP.get(jax.default_backend(), MOST_LOCKSTEP)))
        return map_tiles(batched, lanes, -(-count // (devices * rounds)))

    return together


def make_separate(train: Callable[[Lane[Array]], Trained]) -> Callable[[Lane[np.ndarray]], Trained]:
    """Returns a function that does the same by one compiled call for each lane, one after another."""
    single = jax.jit(train)

    def separate(lanes: Lane[np.ndarray]) -> Trained:
        count = len(lanes.seed)
        ends = [jax.block_until_ready(single(Lane(*(part[i] for part in lanes)))) for i in range(count)]
        return jax.tree.map(lambda *parts: np.stack(parts), *ends)

    return separate


def _draw(network: str, key: Array, dtype: DTypeLike) -> tuple[Graph, optax.Params]:
    return nnx.split(NETWORKS[network](nnx.Rngs(params=key), dtype), nnx.Param)


def _accuracy(graph: Graph, params: optax.Params, part: Labelled) -> Array:
    return jnp.mean(nnx.merge(graph, params)(part.images).argmax(-1) == part.labels)
