"""The λ at which u has a given sparsity."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax._sharding import automatic
from rvsmjax.penalties import Penalty
from rvsmjax.penalties._largest import kth_largest
from rvsmjax.penalties._weighted import step_at

SLACK = 1e-6
"""Relative distance of the threshold above the largest magnitude that becomes zero: rounding must not revive it."""


def step_for_sparsity(penalty: Penalty, leaves: Sequence[Array], sparsity: ArrayLike, least: int = 0) -> Array:
    """Returns the smallest step at which at least round(sparsity·n) of all n components are zero in the prox.

    First the threshold: a magnitude of the given rank, found by counting. Then the step that has this
    threshold, by bisection over the bit patterns of floats, which sort like the floats. No iteration depends on the
    scale of the leaves or on the penalty's formula.

    Args:
      penalty: a penalty with a threshold that increases with the step.
      leaves: arrays of any shapes.
      sparsity: fraction of zeros over all leaves, in [0, 1).
      least: number of components or groups that stay, if there are so many and all groups have one size.

    Returns:
      The step, a scalar without a derivative. Groups become zero as a whole: the fraction is reached within one group.
    """
    leaves = [jax.lax.stop_gradient(leaf) for leaf in leaves]
    threshold = _threshold_for(
        _magnitudes(penalty, leaves), [leaf.size for leaf in leaves], jnp.asarray(sparsity), least
    )
    return step_at(jax.lax.stop_gradient(penalty), threshold)


def steps_for_sparsity(penalty: Penalty, leaves: Sequence[Array], sparsity: ArrayLike, least: int = 0) -> Array:
    """Returns the step of ``step_for_sparsity`` for each leaf by itself, a vector, in one search."""
    magnitudes = _magnitudes(penalty, [jax.lax.stop_gradient(leaf) for leaf in leaves])
    counts = jnp.asarray([m.size for m in magnitudes], jnp.int32)
    need = jnp.clip(jnp.round(jnp.asarray(sparsity) * counts).astype(jnp.int32), 0, jnp.maximum(counts - least, 0))
    edges = kth_largest(magnitudes, jnp.clip(counts - need + 1, 1, jnp.maximum(counts, 1)))
    return step_at(jax.lax.stop_gradient(penalty), jnp.where(need > 0, edges * (1 + SLACK), 0))


def _magnitudes(penalty: Penalty, leaves: Sequence[Array]) -> Sequence[Array]:
    # The search takes absolute values itself; others would be stored.
    return leaves if type(penalty).magnitudes is Penalty.magnitudes else penalty.magnitudes(leaves)


def _threshold_for(magnitudes: Sequence[Array], sizes: Sequence[int], sparsity: Array, least: int) -> Array:
    """Returns a threshold which the given fraction of components, weighted by the sizes of their groups, reach."""
    count = sum(m.size for m in magnitudes)
    if len({size / max(m.size, 1) for size, m in zip(sizes, magnitudes, strict=True)}) == 1:
        need = jnp.clip(jnp.round(sparsity * count).astype(jnp.int32), 0, max(count - least, 0))
        edge = kth_largest(magnitudes, jnp.clip(count - need + 1, 1, count))
    else:
        weights = [jnp.full(m.size, size / max(m.size, 1)) for size, m in zip(sizes, magnitudes, strict=True)]
        need = jnp.round(sparsity * sum(sizes))
        edge = automatic(lambda ms, least: _weighted_edge(ms, weights, least), magnitudes, need, like=False)
    return jnp.where(need > 0, edge * (1 + SLACK), 0)


def _weighted_edge(magnitudes: Sequence[Array], weights: Sequence[Array], need: Array) -> Array:
    """Returns the magnitude at which the cumulative weight of the smaller ones is closest to ``need``."""
    flat = jnp.concatenate([m.ravel() for m in magnitudes])
    order = jnp.argsort(flat)
    reached = jnp.cumsum(jnp.concatenate(list(weights))[order])
    return flat[order][jnp.argmin(jnp.abs(reached - need))]
