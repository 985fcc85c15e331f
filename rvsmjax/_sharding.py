"""Arrays on a mesh: explicit axes, the default of ``jax.make_mesh``, and parts of arrays inside ``jax.shard_map``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AxisType, PartitionSpec

from rvsmjax._pytree import PyTree

Result = TypeVar("Result", Array, list[Array])


def is_explicit(x: Array) -> bool:
    """Returns whether an array lies on explicit mesh axes."""
    return _has_axes(x, AxisType.Explicit)


def is_manual(x: Array) -> bool:
    """Returns whether an array is a part of one inside ``jax.shard_map``."""
    return _has_axes(x, AxisType.Manual)


def _has_axes(x: Array, kind: AxisType) -> bool:
    mesh = jax.typeof(x).sharding.mesh
    return not mesh.empty and kind in mesh.axis_types


def automatic(function: Callable[..., Result], arrays: Sequence[Array], *rest: PyTree, like: bool = True) -> Result:
    """Returns ``function(arrays, *rest)``: arrays with the shapes and shardings of ``arrays``, or else replicated ones.

    Where these lie on explicit mesh axes, XLA chooses the shardings inside: sorts, scans and reshapes over a sharded
    axis have none that JAX could derive.
    """
    arrays = list(arrays)
    shardings = [jax.typeof(x).sharding for x in arrays]
    meshes = {sharding.mesh for x, sharding in zip(arrays, shardings, strict=True) if is_explicit(x)}
    if not meshes:
        return function(arrays, *rest)
    with jax.sharding.use_abstract_mesh(meshes.pop()):
        out = shardings if like else PartitionSpec()
        automatically = jax.sharding.auto_axes(function, out_sharding=out)
        result: Result = automatically(arrays, *rest)
        return result


def varying(tree: PyTree, arrays: Sequence[Array]) -> PyTree:
    """Returns ``tree`` as values that may differ between devices if one of ``arrays`` does, inside ``jax.shard_map``.

    Loops and branches must not change that of what they carry.
    """
    flags = [x.ravel()[0] != 0 for x in arrays if x.size and is_manual(x)]
    if not flags:
        return tree
    differs = functools.reduce(jnp.logical_or, flags)
    return jax.tree.map(lambda x: jnp.where(differs, x, x), tree)  # XLA removes it
