"""A group lasso in the loss, as in the authors' released code, where splitting has another penalty."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax.transforms import Mask, select

EPSILON = 1e-8


def add_group_lasso(lam: float, mask: Mask = None) -> optax.GradientTransformation:
    """Returns a transformation that adds the gradient of λ Σ_g √(‖w_g‖² + ε), ε = 1e-8, to the gradients.

    A group is all weights out of one channel or unit: those with one index on the second to last axis of a kernel.

    Args:
      lam: λ.
      mask: which leaves, see ``rvsmjax.transforms.select``.

    Source: ``gpls`` in the authors' released code.
    """

    def gradient(w: Array) -> Array:
        axes = [axis for axis in range(w.ndim) if axis != w.ndim - 2]
        return lam * w / jnp.sqrt(jnp.sum(jnp.square(w), axes, keepdims=True) + EPSILON)

    def add(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        return jax.tree.map(lambda g, w: g + gradient(w), updates, params)

    return optax.masked(optax.stateless(add), lambda params: select(params, mask))
