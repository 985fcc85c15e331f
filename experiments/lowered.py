"""The training programs of the full networks with abstract arguments, to lower or compile for a device that is absent.

No array of a network's or a data set's size is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import ShapeDtypeStruct

from experiments.chains import PENALTIES, RESTARTS, SHARES, make_optimizer
from experiments.cifar_recipes import CifarRecipe, modern, released
from experiments.programs import Labelled, TrainState, make_epoch, make_step

IMAGES = {"part": 45_000, "all": 50_000}
"""Training images of CIFAR-10, see ``Recipe.train_on``."""


def make_recipe(net: str, method: str, batch: int = 128, dtype: str = "bfloat16") -> CifarRecipe:
    """Returns the recipe of one method on CIFAR-10.

    Args:
      net: a name of ``experiments.cifar_recipes.NETS``.
      method: ``sgd``, ``admm``, ``admm-released`` or ``magnitude``, or the penalty of ``rvsm``: a name of ``PENALTIES``
        or ``SHARES``.
      batch: images a step.
      dtype: of the computation.
    """
    common: dict[str, Any] = {"batch": batch, "dtype": dtype}
    if method in SHARES:
        return modern(net, "rvsm", method, sparsity=0.9, **common)
    if method in PENALTIES:
        return released(net, "rvsm", method, **common)
    if method == "admm-released":
        return released(net, "admm", "signed_percentile", **common)
    if method == "magnitude":
        return modern(net, method, "", sparsity=0.9, **common)
    return released(net, method, "", **common)


def training_program(
    net: str, method: str, batch: int = 128, dtype: str = "bfloat16", whole_epoch: bool = True
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Returns a jitted function and its abstract arguments: ``function.trace(*args).lower(...)``.

    Args:
      net, method, batch, dtype: see ``make_recipe``.
      whole_epoch: whether the program is an epoch over CIFAR-10, or one step of it.
    """
    return program_of(make_recipe(net, method, batch, dtype), whole_epoch)


def program_of(recipe: CifarRecipe, whole_epoch: bool = True) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Returns the same for any recipe on CIFAR-10."""
    n = IMAGES[recipe.train_on]
    graph, params, rest = nnx.split(nnx.eval_shape(recipe.make_network), nnx.Param, ...)
    optimizer = make_optimizer(recipe, n // recipe.batch, params)
    state = TrainState(params, rest, jax.eval_shape(optimizer.init, params))
    data = Labelled(ShapeDtypeStruct((n, 32, 32, 3), jnp.uint8), ShapeDtypeStruct((n,), jnp.int32))
    key, number = jax.eval_shape(lambda: jax.random.key(0)), ShapeDtypeStruct((), jnp.int32)
    prepare = recipe.preparation()
    if whole_epoch:
        epoch = make_epoch(graph, optimizer.update, prepare, recipe.batch, RESTARTS[recipe.restart], whole=True)
        return epoch, (state, data, key, number)  # type: ignore[return-value]
    sums: Any = ShapeDtypeStruct((2,), jnp.float32)
    order: Any = ShapeDtypeStruct((n,), jnp.int32)
    step = make_step(graph, optimizer.update, prepare, recipe.batch)
    return step, (state, sums, data, order, number, key)
