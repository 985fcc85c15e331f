"""Inference time and size of networks."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import optax
from flax import nnx
from jax import Array

import rvsmjax as rv

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
