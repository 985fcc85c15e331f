"""Gradual magnitude pruning, the baseline of RVSM."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

import rvsmjax as rv
from rvsmjax._pytree import PyTree
from rvsmjax.transforms import Mask, select


class MagnitudeState(NamedTuple):
    """Number of updates, and mask of the components that are not pruned."""

    updates: Array
    support: PyTree


def magnitude_pruning(
    sparsity: Callable[[Array], Array], every: int = 10, mask: Mask = None
) -> optax.GradientTransformation:
    """Returns a transformation, last in a chain, that sets the smallest of all components to zero.

    The mask of the largest components of params + updates is recomputed every ``every`` steps. Pruned components stay
    zero, so the schedule should not decrease.

    Args:
      sparsity: schedule of the sparsity.
      every: steps between two updates of the mask.
      mask: selects the leaves, see ``select``.

    Source: M. Zhu and S. Gupta, "To prune, or not to prune" (arXiv 1710.01878).
    """

    def init(params: optax.Params) -> MagnitudeState:
        return MagnitudeState(jnp.zeros((), jnp.int32), jax.tree.map(lambda w: jnp.ones(w.shape, bool), params))

    def update(
        updates: optax.Updates, state: MagnitudeState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MagnitudeState]:
        new = optax.apply_updates(params, updates)

        def prune() -> PyTree:
            top = rv.TopK(sparsity=sparsity(state.updates), scope="global")
            leaves, structure = jax.tree.flatten(new)
            pairs = list(zip(leaves, jax.tree.leaves(select(new, mask)), strict=True))
            pruned = iter(top.prox_leaves([leaf for leaf, selected in pairs if selected], jnp.ones(())))
            support = [next(pruned) != 0 if selected else jnp.ones(leaf.shape, bool) for leaf, selected in pairs]
            return jax.tree.map(jnp.logical_and, state.support, jax.tree.unflatten(structure, support))

        support = jax.lax.cond(state.updates % every == 0, prune, lambda: state.support)
        updates = jax.tree.map(lambda s, g, w: jnp.where(s, g, -w), support, updates, params)
        return updates, MagnitudeState(optax.safe_increment(state.updates), support)

    return optax.GradientTransformation(init, update)
