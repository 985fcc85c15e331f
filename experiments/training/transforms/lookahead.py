"""Lookahead: every few steps the parameters return to a slow average of themselves."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax._pytree import PyTree

EVERY = 5
"""Steps between two updates of the average."""


class LookaheadState(NamedTuple):
    """Number of updates, and the average; at first the initial parameters."""

    updates: Array
    average: PyTree


def lookahead(decay: float, steps: int) -> optax.GradientTransformation:
    """Returns a transformation, last in a chain of dense parameters, with which they become their average at times.

    After every fifth of the updates the average becomes d·average + (1 − d)·w, with d = decay⁵·(updates / steps)³, and
    w the average. After the last, w is the average in any case.

    Around it ``rvsmjax.sparsify`` passes sparse parameters. A component that is zero there follows the other updates of
    the chain, and has no average until it is nonzero again.

    Args:
      decay: in (0, 1).
      steps: total number of updates.

    Source: K. Jordan (arXiv 2404.00498), after Lookahead (arXiv 1907.08610).
    """

    def init(params: optax.Params) -> LookaheadState:
        return LookaheadState(jnp.zeros((), jnp.int32), params)

    def update(
        updates: optax.Updates, state: LookaheadState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, LookaheadState]:
        count = optax.safe_increment(state.updates)
        returns, kept = count % EVERY == 0, decay**EVERY * (count / steps) ** 3

        def average(slow: Array, w: Array, change: Array) -> Array:
            mean = jnp.where(slow == 0, w + change, kept * slow + (1 - kept) * (w + change))
            return jnp.where(returns, jnp.where(w == 0, 0, mean), slow).astype(slow.dtype)

        def move(slow: Array, w: Array, change: Array) -> Array:
            return jnp.where((returns | (count == steps)) & (w != 0) & (slow != 0), slow - w, change)

        slow = jax.tree.map(average, state.average, params, updates)
        return jax.tree.map(move, slow, params, updates), LookaheadState(count, slow)

    return optax.GradientTransformation(init, update)


def looks_ahead(opt_state: optax.OptState) -> bool:
    """Returns whether a chain has ``lookahead``."""

    def is_lookahead(node: object) -> bool:
        return isinstance(node, LookaheadState)

    return any(map(is_lookahead, jax.tree.leaves(opt_state, is_leaf=is_lookahead)))
