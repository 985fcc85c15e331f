"""Training as a function of a lane's hyperparameters; many lanes in one compiled call, or lanes in sequence."""

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
from .config import NUMBERS, SeedsConfig
from .networks import NETWORKS

RAMP = 2 / 3
"""Share of the steps over which λ or the sparsity increases to its value."""
LOCKSTEP = {"cpu": 8}
"""Lanes per tile by platform; few on CPUs, so a tile fits in a core's cache."""
MOST_LOCKSTEP = 1024
ABSENT = {"lam": 0.0, "beta": 1.0, "sparsity": 0.0, "learning_rate": np.nan}
"""Placeholder values of absent axes, without effect."""


class Lane(NamedTuple, Generic[Numbers]):
    """Seed and hyperparameters of a training: scalars, or arrays with a leading lane axis."""

    seed: Numbers
    lam: Numbers
    beta: Numbers
    sparsity: Numbers
    a: Numbers
    learning_rate: Numbers


def make_lanes(config: SeedsConfig, chosen: list[dict[str, float]], seeds: int) -> Lane[np.ndarray]:
    """Returns the lanes of the first ``seeds`` seeds, setting by setting."""
    table = np.array([[setting[name] for name in NUMBERS] for setting in chosen]).repeat(seeds, 0)
    table = np.where(np.isnan(table), [ABSENT[name] for name in NUMBERS], table).astype(config.precision)
    a = np.full(len(table), config.a, config.precision)
    seed = np.tile(np.arange(seeds, dtype=np.uint32), len(chosen))
    return Lane(seed=seed, a=a, **dict(zip(NUMBERS, table.T, strict=True)))


class Curves(NamedTuple):
    """Metrics of each epoch: mean training loss, validation accuracy of w and of u, share of zeros in u."""

    loss: Array
    accuracy_w: Array
    accuracy_u: Array
    zeros: Array


class Trained(NamedTuple):
    """Result of a training."""

    w: optax.Params
    u: optax.Params
    curves: Curves


Carry = tuple[optax.Params, optax.OptState]


def splitting(penalty: str, lane: Lane[Array], ramp: int) -> optax.GradientTransformation:
    """Returns the splitting; ``none`` is ℓ1 with λ = 0, for which u = w."""
    if penalty == "top_k":
        top = rv.TopK(sparsity=rv.cubic_sparsity(lane.sparsity, 0, ramp), scope="global")
        return rv.rvsm(top, 1.0, lane.beta)
    kind = find("l1" if penalty == "none" else penalty)(lane.a)
    lam = jnp.zeros_like(lane.lam) if penalty == "none" else lane.lam
    return rv.rvsm(kind, lambda step: lam * jnp.clip(step / ramp, 0, 1), lane.beta)


def make_training(
    penalty: str, network: str, data: Data, *, epochs: int, batch: int, root: Array
) -> Callable[[Lane[Array]], Trained]:
    """Returns a training as a function of one lane, to be jitted: SGD with Nesterov momentum and cosine decay.

    The splitting comes after the momentum (decoupled). Initial weights and the order of the images depend only on
    ``fold_in(root, seed)``, so lanes of a seed share them.

    Args:
      penalty: key of ``config.AXES`` or name of a penalty.
      network: key of ``NETWORKS``.
      data: images; the test images are not used.
      epochs: number of epochs.
      batch: batch size; each epoch skips the images that do not fill a batch, different ones each time.
      root: root key.
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
    """Returns the test accuracy of each lane's network with parameters ``params``."""
    graph, _ = _draw(network, jax.random.key(0), test.images.dtype)
    return np.asarray(jax.jit(jax.vmap(lambda lane: _accuracy(graph, lane, test)))(params))


def make_together(train: Callable[[Lane[Array]], Trained]) -> Callable[[Lane[np.ndarray]], Trained]:
    """Returns a function that trains all lanes in one compiled call and returns NumPy arrays."""
    batched = jax.vmap(train)

    def together(lanes: Lane[np.ndarray]) -> Trained:
        count, devices = len(lanes.seed), len(jax.local_devices())
        rounds = -(-count // (devices * LOCKSTEP.get(jax.default_backend(), MOST_LOCKSTEP)))
        return map_tiles(batched, lanes, -(-count // (devices * rounds)))

    return together


def make_separate(train: Callable[[Lane[Array]], Trained]) -> Callable[[Lane[np.ndarray]], Trained]:
    """Returns a function that trains the lanes in sequence, one compiled call each."""
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
