"""Operations of a training, counted from shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import jax
from flax import nnx
from jax import ShapeDtypeStruct, lax

from rvsmjax._pytree import PyTree

from .settings import Network

PASSES = 3
"""Products of a training step per product of the forward pass: its derivatives by the input and by the weights."""


def forward_operations(network: Network, shape: tuple[int, ...]) -> int:
    """Returns the multiplications and additions of a network's convolutions and matrix products, by its program.

    Args:
      network: the network, which may be abstract.
      shape: of the input.
    """
    graph, weights = nnx.split(network)

    def call(state: PyTree, x: jax.Array) -> Any:
        plain = nnx.merge(graph, state)
        modules: Any = nnx.iter_modules(cast("nnx.Module", plain))
        for _, module in modules:
            if isinstance(module, nnx.Conv):
                module.conv_general_dilated = lax.conv_general_dilated
        return plain(x)

    program = jax.make_jaxpr(call)(weights, ShapeDtypeStruct(shape, "float32"))
    return sum(_products(program.jaxpr))


def training_operations(network: Network, shape: tuple[int, ...], images: int) -> int:
    """Returns those of a training: three passes for each image seen.

    The first layer is counted like the others, though it has no derivative by its input.

    Args:
      network: the network, which may be abstract.
      shape: of an image.
      images: number of images seen: epochs times images per epoch.
    """
    return PASSES * forward_operations(network, (1, *shape)) * images


def _products(jaxpr: Any) -> Iterator[int]:
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name in ("conv_general_dilated", "dot_general"):
            (_, right), out = (variable.aval for variable in equation.invars), equation.outvars[0].aval
            if name == "dot_general":
                summed = math.prod(right.shape[i] for i in parameters["dimension_numbers"][0][1])
            else:
                summed = right.size // right.shape[parameters["dimension_numbers"].rhs_spec[0]]
            yield 2 * out.size * summed
        for part in jax.tree.leaves(list(parameters.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(part, "eqns") or hasattr(part, "jaxpr"):
                yield from _products(getattr(part, "jaxpr", part))
