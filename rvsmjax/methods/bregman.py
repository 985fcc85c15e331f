"""Linearized Bregman iterations around any optimizer: LinBreg, AdaBreg."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax import _checks
from rvsmjax._pytree import PyTree
from rvsmjax.geometry import working_dtype
from rvsmjax.penalties import Penalty
from rvsmjax.transforms.leaves.layouts import Layout, check_layout
from rvsmjax.transforms.leaves.marks import Marks, evaluate, map_marked, masked, require_arrays
from rvsmjax.transforms.leaves.selection import Mask
from rvsmjax.transforms.precision import change_to
from rvsmjax.transforms.rules import Overrides, Rule, make_rules, map_rules, mark_leaves, numbers_at


class BregmanState(NamedTuple):
    """State of ``bregman``.

    Attributes:
      count: number of updates, int32.
      marks: the rule that applies to each leaf, without arrays.
      rules: penalties and λ of the last update, schedules resolved.
      delta: δ.
      inner_state: state of the optimizer.
      subgradient: v, for the selected leaves, at least float32.
    """

    count: Array  # type: ignore[assignment]  # optax's name, over the method of tuples
    marks: Marks
    rules: tuple[Rule, ...]
    delta: Array
    inner_state: optax.OptState
    subgradient: PyTree

    def sparse(self, params: optax.Params) -> PyTree:
        """Returns ``params``, which are θ."""
        return params


def bregman(
    optimizer: optax.GradientTransformation,
    penalty: Penalty,
    lam: optax.ScalarOrSchedule | None = None,
    *,
    delta: float | Array = 1.0,
    mask: Mask = None,
    overrides: Overrides | None = None,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Returns ``optimizer`` as linearized Bregman iterations: training starts sparse, and weights join when they pay.

    .. math:: v \leftarrow v + \Delta, \qquad \theta = \mathrm{prox}_{\delta\lambda P}(\delta v)

    The parameters are θ, and Δ is the optimizer's update for the gradient at θ. v is a subgradient of
    λP + ‖·‖²/(2δ) at θ: a zero component keeps what it has learned until δ|v| exceeds the threshold, and then enters
    with that learned. With ``optax.sgd`` this is LinBreg, with ``optax.adam`` AdaBreg. Start from ``sparse_start``.

    Compared with ``sparsify``, δv is w and θ is u. There λ follows a sparsity, and what zero components have learned
    fades. Here λ is given, and the sparsity is a result: it falls during training. One cannot ask for it, as λ would
    change in every step: v would be no subgradient at θ, and each change of λ would move all nonzero weights of ℓ1. A
    schedule of λ does that too.

    Args:
      optimizer: any optax optimizer, complete with its learning rate. Nothing may follow in a chain.
      penalty: P.
      lam: λ >= 0, a number or a schedule; not needed for a constraint.
      delta: δ > 0, the step size of the prox: small δ makes new weights grow slowly.
      mask: which leaves, see ``select``.
      overrides: other penalties and λ for some leaves, see ``rvsm``.
      layout: what each axis of a leaf means, see ``rvsm``.

    Raises:
      TypeError: if ``penalty`` is not a Penalty, λ is missing, or an integer leaf is selected.
      ValueError: if λ < 0, δ <= 0, ``update`` is called without ``params``, or a mask, override or layout does not fit.

    Source: Bungert et al., arXiv 2105.04319. v starts at θ/δ + λ∇P(θ), with 0 for ∇P at zero components and groups: for
    ℓ1 and groups of ℓ1 the first prox returns θ. It also does for transformed ℓ1 and ℓ0 (∇P = 0) where |θ| exceeds the
    threshold; a constraint projects θ/δ. Their momentum is m ← μm + (1 − μ)ηg: η is that of ``optax.sgd`` over 1 − μ.
    Their groups have the weight √size, which goes into λ here. Adam is the same.

    Example:
      >>> import rvsmjax as rv
      >>> w = jnp.array([0.5, 0.0, 0.0])
      >>> tx = bregman(optax.sgd(0.5), rv.L1(), lam=1.0)
      >>> state = tx.init(w)
      >>> for _ in range(4):
      ...     updates, state = tx.update(w - jnp.array([1.0, 0.8, 0.1]), state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> w.tolist()
      [0.96..., 0.5, 0.0]
    """
    rules = make_rules(penalty, lam, overrides)
    layout = check_layout(layout)
    _checks.positive("delta", delta)
    inner = optax.with_extra_args_support(optimizer)

    def init(params: optax.Params) -> BregmanState:
        count = jnp.zeros((), jnp.int32)
        marks = mark_leaves(params, mask, overrides, rules, layout)
        now, size = numbers_at(count, rules, delta)

        def start(params: optax.Params) -> PyTree:
            rows = zip(marks.rules, marks.axes, marks.leaves(params), strict=True)
            leaves = [w if i is None else _subgradient(now[i].on([axes]), w, size) for i, axes, w in rows]
            return masked(marks, marks.replace(params, leaves))

        return BregmanState(count, marks, now, size, inner.init(params), evaluate(start, params))

    def update(
        updates: optax.Updates, state: BregmanState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, BregmanState]:
        if params is None:
            raise ValueError("params must be passed to update: bregman replaces them with a prox")
        marks = state.marks
        require_arrays(marks, updates)
        now, size = numbers_at(state.count, rules, delta, like=(state.rules, state.delta))
        steps, inner_state = inner.update(updates, state.inner_state, params, **extra)
        v = map_marked(lambda v, d: v + d.astype(v.dtype), marks, state.subgradient, steps)
        scaled = map_marked(lambda v: (size * v).astype(v.dtype), marks, v)
        theta = map_rules(lambda r, vs: r.penalty.prox_leaves(vs, size * r.lam), now, marks, scaled)
        changes = map_marked(change_to, marks, steps, params, theta)
        count = optax.safe_increment(state.count)
        return changes, BregmanState(count, marks, now, size, inner_state, v)

    return optax.GradientTransformationExtraArgs(init, update)


def _subgradient(rule: Rule, w: Array, delta: Array) -> Array:
    """Returns w/δ + λ∇P(w), with 0 for ∇P where w is zero."""
    w = w.astype(working_dtype(w))
    slope = jnp.where(w != 0, jax.grad(lambda x: rule.penalty.value(x))(w), 0)
    return (w / delta + rule.lam * slope).astype(w.dtype)
