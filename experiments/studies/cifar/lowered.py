"""Training programs of the full networks with abstract arguments, to lower or compile without the device.

Neither the parameters nor the images are allocated.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import ShapeDtypeStruct

from rvsmjax._pytree import PyTree

from ...data.labelled import Labelled
from ...training.chains import SHARES
from ...training.loop import Task, make_programs
from ...training.programs import TrainState, lowerable, make_step, split
from ...training.recipes import task_of
from .recipes import CifarRecipe, modern, released

IMAGES = {"part": (45_000, 5_000), "all": (50_000, 10_000)}
"""Numbers of training and evaluation images of CIFAR-10, see ``Recipe.train_on``."""


def make_recipe(net: str, method: str, batch: int = 128, dtype: str = "bfloat16") -> CifarRecipe:
    """Returns the recipe of one method on CIFAR-10.

    Args:
      net: key of ``experiments.studies.cifar.recipes.NETS``.
      method: ``sgd``, ``admm``, ``admm-released``, ``magnitude``, ``sparsify``, or the penalty of ``rvsm``: a key of
        ``SHARES`` or an argument of ``chains.penalty_of``.
      batch: batch size.
      dtype: precision of the computation.
    """
    common: dict[str, Any] = {"batch": batch, "dtype": dtype}
    if method in SHARES:
        return modern(net, "rvsm", method, sparsity=0.9, **common)
    if method == "admm-released":
        return released(net, "admm", "signed_percentile", **common)
    if method in ("magnitude", "sparsify"):
        return modern(net, method, "", sparsity=0.9, **common)
    if method in ("sgd", "admm"):
        return released(net, method, "", **common)
    return released(net, "rvsm", method, **common)


def training_program(
    net: str, method: str, batch: int = 128, dtype: str = "bfloat16", whole_epoch: bool = True
) -> tuple[jax.stages.Wrapped, tuple[PyTree, ...]]:
    """Returns a jitted function and its abstract arguments: ``function.trace(*args).lower(...)``.

    Args:
      net, method, batch, dtype: see ``make_recipe``.
      whole_epoch: whether the program is an epoch over CIFAR-10 or a single step.
    """
    return program_of(make_recipe(net, method, batch, dtype), whole_epoch)


def evaluation_program(
    net: str, method: str, batch: int = 128, dtype: str = "bfloat16"
) -> tuple[jax.stages.Wrapped, tuple[PyTree, ...]]:
    """Returns the program of the measurements after an epoch: u, its running means, both accuracies, zeros."""
    recipe = make_recipe(net, method, batch, dtype)
    task, state = _abstract(recipe)
    return lowerable(make_programs(task, batch, whole=True).look), (state, task.train.images, task.held_out)


def program_of(recipe: CifarRecipe, whole_epoch: bool = True) -> tuple[jax.stages.Wrapped, tuple[PyTree, ...]]:
    """Returns the training program of any recipe on CIFAR-10."""
    task, state = _abstract(recipe)
    key, number = jax.eval_shape(lambda: jax.random.key(0)), ShapeDtypeStruct((), jnp.int32)
    if whole_epoch:
        return lowerable(make_programs(task, recipe.batch, whole=True).epoch), (state, task.train, key, number)
    sums, order = ShapeDtypeStruct((2,), jnp.float32), ShapeDtypeStruct(task.train.labels.shape, jnp.int32)
    graph = split(task.network)[0]
    step = make_step(graph, task.optimizer.update, task.prepare, recipe.batch, task.label_smoothing)
    return lowerable(step), (state, sums, task.train, order, number, key)


def _abstract(recipe: CifarRecipe) -> tuple[Task, TrainState]:
    def images(n: int) -> Labelled:
        shapes: Any = ShapeDtypeStruct((n, 32, 32, 3), jnp.uint8), ShapeDtypeStruct((n,), jnp.int32)
        return Labelled(*shapes)

    train, held_out = IMAGES[recipe.train_on]
    network = nnx.eval_shape(recipe.make_network)
    _, params, rest = split(network)
    task = task_of(recipe, network, images(train), images(held_out))
    return task, TrainState(params, rest, jax.eval_shape(task.optimizer.init, params))
