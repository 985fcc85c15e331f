"""Exponential moving average of the parameters."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax._pytree import PyTree


class AveragedState(NamedTuple):
    """Number of updates, and the average of the parameters after each; at first the initial parameters."""

    updates: Array
    average: PyTree


def averaged(decay: float) -> optax.GradientTransformation:
    """Returns a transformation, last in a chain, that leaves the updates alone and averages the parameters.

    After n updates the average is Σ dⁿ⁻ⁱwᵢ / Σ dⁿ⁻ⁱ over i = 1 … n, without the initial parameters.

    Args:
      decay: d, in (0, 1).
    """

    def init(params: optax.Params) -> AveragedState:
        return AveragedState(jnp.zeros((), jnp.int32), params)

    def update(
        updates: optax.Updates, state: AveragedState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AveragedState]:
        count = optax.safe_increment(state.updates)
        weight = (1 - decay) / -jnp.expm1(count * math.log(decay))
        new = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, w: (a + weight * (w - a)).astype(a.dtype), state.average, new)
        return updates, AveragedState(count, average)

    return optax.GradientTransformation(init, update)


def averaged_params(opt_state: optax.OptState) -> PyTree | None:
    """Returns the average in the state of a chain, or None if it holds none."""

    def is_average(node: object) -> bool:
        return isinstance(node, AveragedState)

    nodes = jax.tree.leaves(opt_state, is_leaf=is_average)
    return next((node.average for node in nodes if isinstance(node, AveragedState)), None)
