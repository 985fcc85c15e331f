"""Inference time, size and operations of networks."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import optax
from flax import nnx
from jax import Array, ShapeDtypeStruct, lax

import rvsmjax as rv
from rvsmjax._pytree import PyTree

from .settings import Network

PASSES = 3
"""Products of a training step per product of the forward pass: its derivatives by the input and by the weights."""
WARM_UP = 5
"""Untimed calls of each network."""


def times(networks: Mapping[str, nnx.Module], x: Array, repeats: int) -> dict[str, np.ndarray]:
    """Returns the seconds of ``repeats`` calls of each compiled network with ``x``; calls of the networks alternate."""
    calls = {}
    for name, network in networks.items():
        graph, state = nnx.split(network)
        calls[name] = jax.jit(lambda x, graph=graph, state=state: nnx.merge(graph, state)(x))
        for _ in range(WARM_UP):
            jax.block_until_ready(calls[name](x))
    seconds = np.empty((repeats, len(calls)))
    for row in seconds:
        for i, call in enumerate(calls.values()):
            start = time.perf_counter()
            jax.block_until_ready(call(x))
            row[i] = time.perf_counter() - start
    return dict(zip(calls, seconds.T, strict=True))


def sizes(params: optax.Params) -> dict[str, int]:
    """Returns the number of values of a tree and its bytes in memory, with kernels as BCOO, and as an npz file."""
    leaves = jax.tree.leaves(params)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "u.npz"
        rv.save_npz(path, params)
        npz_bytes = os.path.getsize(path)
    return {
        "numbers": sum(leaf.size for leaf in leaves),
        "bytes": sum(leaf.nbytes for leaf in leaves),
        "bytes as BCOO": sum(leaf.nbytes for leaf in jax.tree.leaves(rv.to_bcoo(params))),
        "bytes as npz": npz_bytes,
    }


def forward_operations(network: Network, shape: tuple[int, ...]) -> int:
    """Returns the multiplications and additions of a network's convolutions and matrix products, by its program.

    Args:
      network: the network, which may be abstract.
      shape: of the input.
    """
    graph, weights = nnx.split(network)

    def call(state: PyTree, x: Array) -> Any:
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
