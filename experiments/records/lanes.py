"""Many independent runs in one compiled call: lanes in tiles, distributed over the devices."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike, DTypeLike

from rvsmjax._pytree import PyTree

Numbers = TypeVar("Numbers", bound=jax.Array | np.ndarray)
"""Values of lanes: NumPy arrays on the host, JAX arrays in compiled code."""


def map_tiles(function: Callable[[PyTree], PyTree], lanes: PyTree, tile: int = 64) -> PyTree:
    """Applies ``function`` to all lanes, tile by tile; returns NumPy arrays whose first axis is the lanes.

    A tile runs until its slowest lane is finished, so neighbouring lanes should take similar numbers of steps. Tiles
    are assigned to the devices in turn. The last tile is padded with copies of the last lane.

    Args:
      function: function of a tile; input and output are trees of arrays whose first axis is the lanes. Equal functions
        compile once.
      lanes: tree of arrays whose first axis is the lanes.
      tile: lanes per tile.
    """
    count = len(jax.tree.leaves(lanes)[0])
    devices = tuple(jax.local_devices())
    rounds = -(-count // (tile * len(devices)))
    index = np.minimum(np.arange(rounds * tile * len(devices)), count - 1).reshape(rounds, len(devices), tile)
    inputs = jax.tree.map(lambda x: np.asarray(x)[index.swapaxes(0, 1)], lanes)
    results = jax.tree.map(np.asarray, _program(function, devices)(inputs))
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(index.size, *x.shape[3:])[:count], results)


@functools.lru_cache(maxsize=64)
def _program(function: Callable[[PyTree], PyTree], devices: tuple[jax.Device, ...]) -> Callable[[PyTree], PyTree]:
    """Returns the compiled map over arrays of shape (devices, rounds, tile, ...)."""

    def local(inputs: PyTree) -> PyTree:
        tiles = jax.tree.map(lambda x: x[0], inputs)
        return jax.tree.map(lambda x: x[None], jax.lax.map(function, tiles))

    split = PartitionSpec("lanes")
    mesh = Mesh(np.asarray(devices), ("lanes",))
    return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=split, out_specs=split, check_vma=False))


def lane_keys(root: jax.Array, seeds: ArrayLike, stream: int) -> jax.Array:
    """Returns the key ``fold_in(fold_in(root, seed), stream)`` of each seed."""
    keys = jax.vmap(functools.partial(jax.random.fold_in, root))(jnp.asarray(seeds, jnp.uint32))
    return jax.vmap(jax.random.fold_in, (0, None))(keys, stream)


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def drawn(
    law: Callable[..., jax.Array], keys: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = float
) -> jax.Array:
    """Returns samples of a distribution, such as ``jax.random.normal``, for each key: of shape (keys, *shape)."""
    return jax.vmap(lambda key: law(key, shape, dtype))(keys)
