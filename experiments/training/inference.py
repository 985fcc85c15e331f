"""How long networks take to answer, and how many bytes they are."""

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
"""Calls of each network before the clock runs."""


def times(networks: Mapping[str, nnx.Module], x: Array, repeats: int) -> dict[str, np.ndarray]:
    """Returns the seconds of ``repeats`` calls of each network with ``x``, compiled apart, the networks in turns."""
    calls = {}
    for name, network in networks.items():
        graph, state = nnx.split(network)
        calls[name] = jax.jit(lambda x, graph=graph, state=state: nnx.merge(graph, state)(x))
        for _ in range(WARM_UP):
            jax.block_until_ready(calls[name](x))
    taken = np.empty((repeats, len(calls)))
    for row in taken:
        for place, call in enumerate(calls.values()):
            start = time.perf_counter()
            jax.block_until_ready(call(x))
            row[place] = time.perf_counter() - start
    return dict(zip(calls, taken.T, strict=True))


def sizes(params: optax.Params) -> dict[str, int]:
    """Returns how many numbers a tree has, its bytes in memory, with its kernels as BCOO, and as an npz file."""
    leaves = jax.tree.leaves(params)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "u.npz"
        rv.save_npz(path, params)
        packed = os.path.getsize(path)
    return {
        "numbers": sum(leaf.size for leaf in leaves),
        "bytes": sum(leaf.nbytes for leaf in leaves),
        "bytes as BCOO": sum(leaf.nbytes for leaf in jax.tree.leaves(rv.to_bcoo(params))),
        "bytes as npz": packed,
    }
