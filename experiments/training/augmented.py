"""Accuracy with test-time augmentation: mirrored and shifted images."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from rvsmjax._pytree import PyTree

from ..data.labelled import Labelled
from .loop import Task
from .programs import EVALUATED, Graph, Prepare, split


def augmented_scores(network: Callable[[Array], Array], x: Array) -> Array:
    """Returns mean scores: half of the images and their mirror images, half of those shifted diagonally by a pixel.

    The shifts are to the upper left and the lower right; the images are reflected at their outermost pixels.

    Source: K. Jordan (arXiv 2404.00498).
    """
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    shifted = padded[:, :height, :width], padded[:, 2:, 2:]
    plain, first, second = (network(part) + network(part[:, :, ::-1]) for part in (x, *shifted))
    return plain / 4 + (first + second) / 8


def augmented_accuracy(task: Task, params: optax.Params, rest: PyTree, data: Labelled) -> float:
    """Returns the accuracy of ``augmented_scores`` of a network in evaluation mode."""
    network = nnx.clone(task.network)
    network.eval()
    graph, n, right = split(network)[0], len(data.labels), 0
    for i in range(0, n, EVALUATED):
        part = jax.tree.map(lambda a, i=i: a[i : i + EVALUATED], data)
        right += int(_right(graph, task.prepare, params, rest, part))
    return right / n


@functools.partial(jax.jit, static_argnums=(0, 1))
def _right(graph: Graph, prepare: Prepare, params: optax.Params, rest: PyTree, data: Labelled) -> Array:
    network, x = nnx.merge(graph, params, rest), prepare(data.images, jax.random.key(0), False)
    return jnp.sum(augmented_scores(lambda x: network(x).astype(jnp.float32), x).argmax(-1) == data.labels)
