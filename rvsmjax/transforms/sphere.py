"""Projection onto the unit sphere, for the end of a chain."""

from __future__ import annotations

from typing import NamedTuple

import jax
import optax

from rvsmjax._sharding import automatic
from rvsmjax.geometry import norm, unit
from rvsmjax.transforms.leaves.layouts import Layout, check_layout
from rvsmjax.transforms.leaves.marks import Marks, map_leaf_slices
from rvsmjax.transforms.leaves.selection import Mask
from rvsmjax.transforms.rules import mark_leaves


class UnitSphereState(NamedTuple):
    """Its presence in a chain's state means that the parameters stay on the sphere. Holds no arrays."""

    marks: Marks


def unit_sphere(mask: Mask = None, *, layout: Layout | None = None) -> optax.GradientTransformationExtraArgs:
    """Returns a transformation that normalizes params + updates: each selected leaf has norm 1. Goes last in a chain.

    A leaf counts as one vector, whatever its shape. If params + updates is zero, params are unchanged.

    Args:
      mask: which leaves, see ``select``.
      layout: what each axis of a leaf means, see ``rvsm``: each slice of a stack is normalized by itself.

    Raises:
      ValueError: if ``update`` is called without ``params``, or a mask or layout does not fit.

    Source: A Algorithm 1, last line.

    Example:
      >>> import jax.numpy as jnp
      >>> w, tx = jnp.array([1.0, 0.0]), unit_sphere()
      >>> updates, _ = tx.update(jnp.array([2.0, 4.0]), tx.init(w), w)
      >>> (w + updates).tolist()
      [0.6000000..., 0.8000000...]
    """
    layout = check_layout(layout)

    def init(params: optax.Params) -> UnitSphereState:
        return UnitSphereState(mark_leaves(params, mask, None, layout=layout))

    def update(
        updates: optax.Updates, state: UnitSphereState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, UnitSphereState]:
        del extra
        if params is None:
            raise ValueError("params must be passed to update: unit_sphere normalizes params + updates")

        def project(g: jax.Array, w: jax.Array) -> jax.Array:
            return automatic(lambda pair: [_to_sphere(*pair), pair[1]], [g, w])[0]

        return map_leaf_slices(project, state.marks, updates, params), state

    return optax.GradientTransformationExtraArgs(init, update)


def _to_sphere(g: jax.Array, w: jax.Array) -> jax.Array:
    new = (w + g).reshape(-1)
    return jax.numpy.where(norm(new) == 0, 0, unit(new).reshape(w.shape) - w).astype(g.dtype)
