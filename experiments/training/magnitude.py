"""Gradual magnitude pruning, the method that RVSM is measured against."""

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
    """Number of updates, and True where a component may move."""

    updates: Array
    support: PyTree


def magnitude_pruning(
    sparsity: Callable[[Array], Array], every: int = 10, mask: Mask = None
) -> optax.GradientTransformation:
    """Returns a transformation, last in a chain, that sets the smallest of all components to 0.

    Every so many steps the pattern is that of the largest components of params + updates; in between it is kept. What
    is 0 stays so, for a schedule that rises.

    Args:
      sparsity: share of zeros by step.
      every: steps between two looks.
      mask: which leaves, see ``select``.

    Source: M. Zhu and S. Gupta, "To prune, or not to prune" (arXiv 1710.01878).
    """

    def init(params: optax.Params) -> MagnitudeState:
        return MagnitudeState(jnp.zeros((), jnp.int32), jax.tree.map(lambda w: jnp.ones(w.shape, bool), params))

    def update(
        updates: optax.Updates, state: MagnitudeState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MagnitudeState]:
        new = optax.apply_updates(params, updates)

        def look() -> PyTree:
            top = rv.TopK(sparsity=sparsity(state.updates), scope="global")
            leaves, structure = jax.tree.flatten(new)
            taken = jax.tree.leaves(select(new, mask))
            pruned = [leaf for leaf, take in zip(leaves, taken, strict=True) if take]
            kept = iter(top.prox_leaves(pruned, jnp.ones(())))
            pairs = zip(leaves, taken, strict=True)
            own = [next(kept) != 0 if take else jnp.ones(leaf.shape, bool) for leaf, take in pairs]
            return jax.tree.map(jnp.logical_and, state.support, jax.tree.unflatten(structure, own))

        support = jax.lax.cond(state.updates % every == 0, look, lambda: state.support)
        kept = jax.tree.map(lambda s, g, w: jnp.where(s, g, -w), support, updates, params)
        return kept, MagnitudeState(optax.safe_increment(state.updates), support)

    return optax.GradientTransformation(init, update)
