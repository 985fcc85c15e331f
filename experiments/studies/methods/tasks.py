"""The networks of the comparison: how each starts, what a batch is, its loss, and how it is evaluated."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from rvsmjax import nets
from rvsmjax._pytree import PyTree

from ...data import digits, images
from ...data.labelled import Labelled
from ...training.programs import Graph
from ...training.settings import Network
from .decoder import CONTEXT, Decoder, load_text
from .networks import Mixer, Perceptron, Recurrent

EVALUATED = 1000
"""Examples of one call of an evaluation."""


class Task(NamedTuple):
    """A network with its data.

    Attributes:
      batch: examples of an update.
      rates: learning rate of each optimizer; of the digits chosen on validation data for the dense network.
      make: random streams -> the network.
      draw: (training data, key, batch) -> inputs and labels of a batch.
      load: a folder -> training, validation and test data.
    """

    batch: int
    rates: dict[str, float]
    make: Callable[[nnx.Rngs], Network]
    draw: Callable[[PyTree, Array, int], tuple[Array, Array]]
    load: Callable[[Path | None], tuple[PyTree, PyTree, PyTree]]


def _draw_images(data: Labelled, key: Array, batch: int) -> tuple[Array, Array]:
    rows = jax.random.randint(key, (batch,), 0, len(data.labels))
    return _prepared(data.images[rows]), data.labels[rows]


def _prepared(pixels: Array) -> Array:
    return pixels / 255 if pixels.dtype == jnp.uint8 else pixels


def _draw_augmented(data: Labelled, key: Array, batch: int) -> tuple[Array, Array]:
    """Random flips, and shifts by up to four pixels."""
    rows_key, flip_key, shift_key = jax.random.split(key, 3)
    x, y = _draw_images(data, rows_key, batch)
    x = jnp.where(jax.random.bernoulli(flip_key, shape=(batch, 1, 1, 1)), x[:, :, ::-1], x)
    padded = jnp.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    corners = jax.random.randint(shift_key, (batch, 2), 0, 9)
    cut = lambda image, corner: jax.lax.dynamic_slice(image, (*corner, 0), x.shape[1:])  # noqa: E731
    return jax.vmap(cut)(padded, corners), y


def _draw_text(data: Array, key: Array, batch: int) -> tuple[Array, Array]:
    starts = jax.random.randint(key, (batch, 1), 0, len(data) - CONTEXT)
    window = data[starts + jnp.arange(CONTEXT + 1)]
    return window[:, :-1], window[:, 1:]


def _load_images(source: str) -> Callable[[Path | None], tuple[PyTree, PyTree, PyTree]]:
    return lambda folder: images.load(source, folder)


def _load_all_of_mnist(folder: Path | None) -> tuple[PyTree, PyTree, PyTree]:
    """Returns the validation images within the training images, too: nothing is chosen."""
    data = images.load("mnist", folder)
    whole = jax.tree.map(lambda *parts: jnp.concatenate(parts), data.train, data.validation)
    return whole, data.validation, data.test


def _load_text(folder: Path | None) -> tuple[PyTree, PyTree, PyTree]:
    del folder
    text = load_text()
    return text.train, text.validation, text.test


TASKS = {
    "digits": Task(
        64,
        {"sgd": 0.1, "adamw": 1e-2, "lion": 3e-3, "muon": 0.01, "adafactor": 0.03},
        Perceptron,
        _draw_images,
        lambda folder: digits.load(jnp.float32),
    ),
    "lenet": Task(
        64,
        {"sgd": 0.03, "adamw": 2e-3, "lion": 3e-4, "muon": 0.01, "adafactor": 0.01},
        lambda rngs: nets.LeNet(rngs=rngs),
        _draw_images,
        _load_images("mnist"),
    ),
    "resnet": Task(
        128,
        {"sgd": 0.1, "adamw": 3e-3, "lion": 3e-4, "muon": 0.02, "adafactor": 0.02},
        lambda rngs: nets.ResNet(blocks=(3, 3, 3), width=16, dtype=jnp.bfloat16, rngs=rngs),
        _draw_augmented,
        _load_images("cifar10"),
    ),
    "decoder": Task(
        16,
        {"sgd": 0.3, "adamw": 3e-3, "lion": 3e-4, "muon": 0.02, "adafactor": 0.02},
        lambda rngs: Decoder(load_text().vocabulary, rngs=rngs),
        _draw_text,
        _load_text,
    ),
    "lenet-300-100": Task(
        100,
        {"sgd": 0.2},
        lambda rngs: nets.LeNet300(init="glorot", rngs=rngs),
        _draw_images,
        _load_all_of_mnist,
    ),
    "mixer": Task(
        64,
        {"sgd": 0.03, "adamw": 3e-3, "lion": 3e-4, "muon": 0.02, "adafactor": 0.02},
        Mixer,
        _draw_images,
        lambda folder: digits.load(jnp.float32),
    ),
    "recurrent": Task(
        16,
        {"sgd": 1.0, "adamw": 3e-3, "lion": 3e-4, "muon": 0.02, "adafactor": 0.02},
        lambda rngs: Recurrent(load_text().vocabulary, rngs),
        _draw_text,
        _load_text,
    ),
}


def loss(scores: Array, labels: Array) -> Array:
    """Returns the mean cross-entropy, in nats per label."""
    return optax.softmax_cross_entropy_with_integer_labels(scores.astype(jnp.float32), labels).mean()


def evaluate(graph: Graph, params: optax.Params, rest: PyTree, data: PyTree) -> dict[str, float]:
    """Returns the loss and the accuracy on all data."""
    if isinstance(data, Labelled):
        x, y = np.asarray(_prepared(data.images)), np.asarray(data.labels)
    else:
        count = (len(data) - 1) // CONTEXT
        x = np.asarray(data[: count * CONTEXT]).reshape(count, CONTEXT)
        y = np.asarray(data[1 : count * CONTEXT + 1]).reshape(count, CONTEXT)

    sums = np.zeros(2)
    for start in range(0, len(x), EVALUATED):
        sums += np.asarray(_totals(graph, params, rest, x[start : start + EVALUATED], y[start : start + EVALUATED]))
    return dict(zip(("loss", "accuracy"), (sums / y.size).tolist(), strict=True))


@functools.partial(jax.jit, static_argnums=0)
def _totals(graph: Graph, params: optax.Params, rest: PyTree, x: Array, y: Array) -> tuple[Array, Array]:
    """Returns the summed loss, and the number of right answers."""
    network = nnx.merge(graph, params, rest)
    network.eval()
    scores = network(x)
    return loss(scores, y) * y.size, jnp.sum(scores.argmax(-1) == y)
