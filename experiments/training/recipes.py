"""Construction of a training task from a recipe: network, optimizer, images."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from flax import nnx

import rvsmjax as rv
from rvsmjax._pytree import PyTree
from rvsmjax.transforms import Mask

from ..data.images import Data
from ..data.labelled import Labelled
from .chains import RESTARTS
from .chains import SHARES as SHARES
from .chains import make_optimizer as make_optimizer
from .loop import Task
from .settings import Network
from .settings import Recipe as Recipe


def make_task(recipe: Recipe, data: Data, start: tuple[optax.Params, PyTree] | None = None) -> Task:
    """Returns the task of a recipe.

    Args:
      recipe: the recipe.
      data: the images.
      start: initial parameters and rest of the network; default: random from the recipe's seed.
    """
    network = recipe.make_network()
    recipe.fit_to_images(network, data.train.images)
    if start is not None:
        params, rest = start
        if recipe.method == "frozen":
            params = keep_largest(params, recipe.sparsity, recipe.mask())
        nnx.update(network, params, rest)
    train, held_out = data.train, data.validation
    if recipe.train_on == "all":
        train = Labelled(*(jnp.concatenate(pair) for pair in zip(data.train, data.validation, strict=True)))
        held_out = data.test
    return task_of(recipe, network, train, held_out)


def task_of(recipe: Recipe, network: Network, train: Labelled, held_out: Labelled) -> Task:
    """Returns the task of a recipe with a given network and given examples, which may be abstract."""
    steps = train.labels.shape[0] // recipe.batch
    optimizer = make_optimizer(recipe, steps, nnx.state(network, nnx.Param))
    return Task(
        network,
        optimizer,
        train,
        held_out,
        recipe.preparation(),
        overwrite=recipe.overwrite and recipe.method == "rvsm",
        restart=RESTARTS[recipe.restart],
        settle=recipe.settle,
        label_smoothing=recipe.label_smoothing,
        alternating=recipe.alternating,
    )


def keep_largest(params: optax.Params, sparsity: float, mask: Mask = None) -> optax.Params:
    """Returns the parameters with all but the largest components set to zero, over all selected leaves together."""
    top = rv.rvsm(rv.TopK(sparsity=sparsity, scope="global"), 1.0, 1.0, mask)
    return rv.sparse_params(top.init(params), params)
