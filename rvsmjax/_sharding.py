"""Arrays on explicit mesh axes, the default of ``jax.make_mesh``: computations without a sharding rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
from jax import Array
from jax.sharding import AxisType
from jax.typing import ArrayLike


def automatic(function: Callable[..., list[Array]], arrays: Sequence[Array], *rest: ArrayLike) -> list[Array]:
    """Returns ``function(arrays, *rest)``, whose arrays have the shapes and get the shardings of ``arrays``.

    Where these lie on explicit mesh axes, XLA chooses the shardings inside: sorts, scans and reshapes over a sharded
    axis have none that JAX could derive.
    """
    arrays = list(arrays)
    shardings = [jax.typeof(x).sharding for x in arrays]
    meshes = {s.mesh for s in shardings if not s.mesh.empty and AxisType.Explicit in s.mesh.axis_types}
    if not meshes:
        return function(arrays, *rest)
    with jax.sharding.use_abstract_mesh(meshes.pop()):
        return jax.sharding.auto_axes(function, out_sharding=shardings)(arrays, *rest)
