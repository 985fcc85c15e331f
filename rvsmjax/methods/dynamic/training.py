"""Dynamic sparse training: a random pattern of fixed size that moves; what ``rigl`` and ``sparse_evolution`` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._pytree import PyTree
from rvsmjax._sharding import varying
from rvsmjax.methods._support import hold, moved, within
from rvsmjax.methods.dynamic import topology
from rvsmjax.methods.dynamic.densities import DISTRIBUTIONS
from rvsmjax.transforms.leaves.layouts import Layout, check_layout
from rvsmjax.transforms.leaves.marks import Marks, evaluate, map_marked, masked, require_arrays
from rvsmjax.transforms.leaves.selection import Mask
from rvsmjax.transforms.rules import mark_leaves

END = 0.75
"""Share of the training after which the pattern no longer moves."""
Scores = Callable[[Marks, optax.Updates, Array], list[Array]]
"""Scores to grow by for each selected leaf, from the marks, the gradient and the number of updates."""


class DynamicSparsityState(NamedTuple):
    """State of ``rigl`` and ``sparse_evolution``.

    Attributes:
      count: number of updates, int32.
      marks: which leaves, without arrays.
      support: masks of the live weights, for the selected leaves. A weight that has just grown is live at the value 0.
      inner_state: state of the optimizer.
    """

    count: Array  # type: ignore[assignment]  # optax's name; shadows tuple.count
    marks: Marks
    support: PyTree
    inner_state: optax.OptState

    def sparse(self, params: optax.Params) -> PyTree:
        """Returns ``params``, which are sparse."""
        return params


def dynamic(
    name: str,
    scores: Scores,
    optimizer: optax.GradientTransformation,
    sparsity: float,
    steps: int,
    every: int,
    fraction: ArrayLike,
    distribution: str,
    seed: ArrayLike,
    mask: Mask,
    layout: Layout | None,
) -> optax.GradientTransformationExtraArgs:
    """Returns ``optimizer`` on a pattern that moves, see ``rigl``; ``scores`` says where it grows."""
    layout = check_layout(layout)
    _checks.fraction("sparsity", sparsity)
    if isinstance(sparsity, jax.core.Tracer):
        raise TypeError("sparsity must be known before tracing (optax.inject_hyperparams: name it in static_args)")
    _checks.share("fraction", fraction)
    _checks.one_of("distribution", distribution, DISTRIBUTIONS)
    _checks.integer("every", every, at_least=1)
    _checks.integer("seed", seed, at_least=0)
    end = END * _checks.count("steps", steps)
    inner = optax.with_extra_args_support(optimizer)

    def init(params: optax.Params) -> DynamicSparsityState:
        marks = mark_leaves(params, mask, None, layout=layout)

        def pattern(params: optax.Params) -> PyTree:
            counts = topology.counts_of(marks, params, sparsity, distribution)
            live = iter(topology.top(marks, topology.random_scores(marks, params, seed, 0), counts))
            return masked(marks, map_marked(lambda _: next(live), marks, params))

        return DynamicSparsityState(jnp.zeros((), jnp.int32), marks, evaluate(pattern, params), inner.init(params))

    def update(
        updates: optax.Updates, state: DynamicSparsityState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, DynamicSparsityState]:
        if params is None:
            raise ValueError(f"params must be passed to update: {name} sets components of params + updates to 0")
        marks, count = state.marks, state.count
        require_arrays(marks, updates)
        chosen = marks.marked(params)
        gradients = within(marks, state.support, updates)
        changes, inner_state = inner.update(gradients, state.inner_state, params, **extra)

        def move() -> tuple[PyTree, optax.OptState]:
            old, weights = marks.marked(state.support), marks.marked(moved(marks, changes, params))
            share = jnp.asarray(fraction) * 0.5 * (1 + jnp.cos(jnp.pi * count / end))
            counts = topology.counts_of(marks, params, sparsity, distribution)
            live = topology.rewired(marks, old, weights, scores(marks, updates, count), counts, share)
            both = iter(zip(live, old, strict=True))
            fresh = [False if rule is None else jnp.greater(*next(both)) for rule in marks.rules]
            arrays = marks.replace(updates, marks.leaves(params))  # params may be an Equinox model
            again = topology.restarted(inner, inner_state, arrays, marks.replace(updates, fresh))
            rest = iter(live)
            support = map_marked(lambda _: next(rest), marks, state.support)
            return varying((support, again), chosen)

        due = (count > 0) & (count % every == 0) & (count < end)
        support, inner_state = jax.lax.cond(due, move, lambda: varying((state.support, inner_state), chosen))
        stays = map_marked(jnp.logical_and, marks, state.support, support)
        new = DynamicSparsityState(optax.safe_increment(count), marks, support, inner_state)
        return hold(marks, stays, changes, params), new

    return optax.GradientTransformationExtraArgs(init, update)
