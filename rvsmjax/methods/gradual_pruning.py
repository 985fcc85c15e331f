"""Gradual pruning: a constraint that rises, and components that never return."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax import _checks
from rvsmjax._pytree import PyTree
from rvsmjax._sharding import varying
from rvsmjax.methods._support import constraints, hold, moved, support_of
from rvsmjax.penalties import Penalty
from rvsmjax.transforms.leaves.layouts import Layout, check_layout
from rvsmjax.transforms.leaves.marks import Marks, map_marked, masked, require_arrays
from rvsmjax.transforms.leaves.selection import Mask
from rvsmjax.transforms.rules import Overrides, mark_leaves


class GradualPruningState(NamedTuple):
    """State of ``gradual_pruning``.

    Attributes:
      count: number of updates, int32.
      marks: the rule that applies to each leaf, without arrays.
      support: masks of the components that are not pruned, for the selected leaves.
    """

    count: Array  # type: ignore[assignment]  # optax's name; shadows tuple.count
    marks: Marks
    support: PyTree

    def sparse(self, params: optax.Params) -> PyTree:
        """Returns ``params``, which are sparse."""
        return params


def gradual_pruning(
    penalty: Penalty,
    *,
    every: int = 1,
    mask: Mask = None,
    overrides: Overrides | None = None,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Returns a transformation that sets components of params + updates to 0 for good. Goes last in a chain.

    .. math:: S \leftarrow S \cap \{i : \mathrm{prox}((w + \Delta)\,1_S)_i \ne 0\},
       \qquad w \leftarrow (w + \Delta)\,1_S

    Magnitude pruning along a schedule is ``TopK(sparsity=cubic_sparsity(...), scope="global")``. As pruned components
    stay 0, the schedule should not decrease.

    Args:
      penalty: a constraint: ``TopK``, ``NM``, or groups of one. Its numbers may be schedules.
      every: steps between two updates of the support S, >= 1.
      mask: which leaves, see ``select``.
      overrides: other constraints for some leaves, see ``rvsm``.
      layout: what each axis of a leaf means, see ``rvsm``.

    Raises:
      TypeError: if a penalty is no constraint, or an integer leaf is selected.
      ValueError: if ``every`` < 1, ``update`` is called without ``params``, or a mask, override or layout does not fit.

    Source: M. Zhu and S. Gupta, arXiv 1710.01878, section 3.

    Example:
      >>> import rvsmjax as rv
      >>> w = jnp.array([1.0, 0.1, -0.5, 0.2])
      >>> tx = optax.chain(optax.sgd(0.1), rv.methods.gradual_pruning(rv.TopK(sparsity=0.5)))
      >>> updates, _ = tx.update(jnp.ones(4), tx.init(w), w)
      >>> (w + updates).tolist()
      [0.8999999..., 0.0, -0.6000000..., 0.0]
    """
    rules = constraints(penalty, overrides)
    layout = check_layout(layout)
    _checks.integer("every", every, at_least=1)

    def init(params: optax.Params) -> GradualPruningState:
        marks = mark_leaves(params, mask, overrides, rules, layout)
        support = masked(marks, map_marked(lambda p: jnp.ones_like(p, bool), marks, params))
        return GradualPruningState(jnp.zeros((), jnp.int32), marks, support)

    def update(
        updates: optax.Updates, state: GradualPruningState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, GradualPruningState]:
        del extra
        if params is None:
            raise ValueError(
                "params must be passed to update: gradual_pruning sets components of params + updates to 0"
            )
        marks = state.marks
        require_arrays(marks, updates)

        def pruned() -> PyTree:
            new = map_marked(lambda w, live: jnp.where(live, w, 0), marks, moved(marks, updates, params), state.support)
            kept = support_of(rules, marks, new, state.count)
            support = map_marked(jnp.logical_and, marks, state.support, kept)
            return varying(support, marks.marked(params))

        due = state.count % every == 0
        support = jax.lax.cond(due, pruned, lambda: varying(state.support, marks.marked(params)))
        new = GradualPruningState(optax.safe_increment(state.count), marks, support)
        return hold(marks, support, updates, params), new

    return optax.GradientTransformationExtraArgs(init, update)
