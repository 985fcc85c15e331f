"""Sparse training around any optimizer: the parameters are u, and the state holds the rest of w."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax import _checks
from rvsmjax._pytree import PyTree
from rvsmjax.geometry import working_dtype
from rvsmjax.penalties import L0, Penalty
from rvsmjax.penalties.top_k import SCOPES
from rvsmjax.schedules import cubic_sparsity
from rvsmjax.transforms.rules import (
    Marks,
    Overrides,
    Rule,
    by_leaf,
    follow_sparsity,
    make_rules,
    map_marked,
    map_rules,
    mark_leaves,
    masked,
    numbers_at,
)
from rvsmjax.transforms.selection import Mask

RAMP, FREEZE = 0.5, 0.8
"""Shares of the training after which the sparsity has its final value, and the pattern no longer changes."""


class SparsifyState(NamedTuple):
    """State of ``sparsify``.

    Attributes:
      count: number of updates, int32.
      marks: the rule that applies to each leaf, without arrays.
      rules: penalties, λ and sparsities of the last update, schedules resolved.
      pull: α of the last update; 1 once the pattern is frozen, when w becomes u.
      inner_state: state of the optimizer.
      residual: w − u for the selected leaves, at least float32.
    """

    count: Array  # type: ignore[assignment]  # optax's name, over the method of tuples
    marks: Marks
    rules: tuple[Rule, ...]
    pull: Array
    inner_state: optax.OptState
    residual: PyTree

    def sparse(self, params: optax.Params) -> PyTree:
        """Returns ``params``, which are u."""
        return params


def sparsify(
    optimizer: optax.GradientTransformation,
    sparsity: optax.ScalarOrSchedule | None = None,
    *,
    steps: int,
    penalty: Penalty | None = None,
    mask: Mask = None,
    overrides: Overrides | None = None,
    scope: str = "global",
    pull: optax.ScalarOrSchedule | None = None,
    rate: optax.ScalarOrSchedule = 1.0,
    freeze: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Returns ``optimizer`` with sparse parameters: they are u at every step, without a projection at the end.

    .. math:: w \leftarrow u + \Delta + (1 - \alpha)(w - u), \qquad u = \mathrm{prox}_{\lambda P}(w)

    The state keeps w − u, and the gradient is that at u. Nonzero components of u get the optimizer's update Δ; it sees
    no gradient elsewhere. A zero component of u keeps learning in w: it takes the step −rate·r·g, and becomes nonzero
    when it exceeds the threshold. Here r is the RMS of Δ over that of the gradient, both over the nonzero components of
    its leaf (over the zero components if their gradient is larger), so no number depends on the optimizer, its moments
    or the learning rate.

    With the default penalty, ℓ0, u holds the largest components of w by magnitude. The sparsity rises along a cubic
    schedule until half of ``steps``; at four fifths the pattern is frozen and w becomes u. ℓ1 also shrinks what it
    keeps, by a threshold that exceeds the steps of the zero components: for it, ``rvsm`` does better.

    Unlike in ``rvsm``, the gradient is taken at u and not at w.

    Args:
      optimizer: any optax optimizer, complete with its learning rate. Nothing may follow in a chain.
      sparsity: final fraction of zeros, in [0, 1), or a schedule of it; None if ``penalty`` is a constraint.
      steps: total number of updates of the training, >= 1.
      penalty: P, by default ``L0``. λ follows the sparsity.
      mask: which leaves, see ``select``.
      overrides: other penalties or sparsities for some leaves, see ``rvsm``.
      scope: whether the sparsity holds for all leaves together (``"global"``) or for each (``"leaf"``).
      pull: share α of the way from w to u per step, in [0, 1], a number or a schedule. Defaults to 1/steps.
      rate: speed of the zero components, >= 0, a number or a schedule. An optimizer with momentum μ moves components
        √((1 + μ)/(1 − μ)) times as far in the long run as the norm of one update suggests, if gradients are mostly
        noise: 4.4 for μ = 0.9.
      freeze: step from which on the pattern is fixed. Defaults to four fifths of ``steps``.

    Raises:
      TypeError: if ``sparsity`` is missing, or given beside a constraint; if an integer leaf is selected.
      ValueError: if a number is out of range, ``update`` is called without ``params``, or a mask or override does not
        fit.

    Source: F Algorithm 1 takes the gradient at the discrete weights and keeps real ones, here for sparse weights.

    Example:
      >>> import rvsmjax as rv
      >>> w = jnp.array([1.0, 0.1, -0.5, 0.2])
      >>> tx = rv.sparsify(optax.sgd(0.1), 0.5, steps=10)
      >>> state = tx.init(w)
      >>> for _ in range(10):
      ...     updates, state = tx.update(w - 1, state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> int(jnp.sum(w == 0))
      2
    """
    _checks.one_of("scope", scope, SCOPES)
    steps = _checks.count("steps", steps)
    freeze = max(1, round(FREEZE * steps)) if freeze is None else _checks.count("freeze", freeze)
    pull = 1 / steps if pull is None else pull
    _checks.share("pull", pull, schedule=True)
    _checks.nonnegative("rate", rate, schedule=True)

    def ramped(sparsity: optax.ScalarOrSchedule) -> optax.ScalarOrSchedule:
        if callable(sparsity):
            return sparsity
        return cubic_sparsity(sparsity, 0, max(1, min(round(RAMP * steps), freeze)))

    rules = make_rules(L0() if penalty is None else penalty, None, overrides, sparsity)
    rules = [rule if rule.sparsity is None else rule._replace(sparsity=ramped(rule.sparsity)) for rule in rules]
    inner = optax.with_extra_args_support(optimizer)

    def init(params: optax.Params) -> SparsifyState:
        count = jnp.zeros((), jnp.int32)
        marks = mark_leaves(params, mask, overrides, rules)
        zeros = masked(marks, jax.tree.map(lambda p: jnp.zeros_like(p, working_dtype(p)), params))
        now, share = numbers_at(count, rules, pull)
        now = by_leaf(now, marks) if scope == "leaf" else now
        return SparsifyState(count, marks, now, share, inner.init(params), zeros)

    def update(
        updates: optax.Updates, state: SparsifyState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, SparsifyState]:
        if params is None:
            raise ValueError("params must be passed to update: sparsify sets components of params + updates to 0")
        marks, frozen = state.marks, state.count >= freeze
        rules_now, share = numbers_at(state.count, rules, pull, like=(state.rules, state.pull))
        share = jnp.where(frozen, jnp.ones_like(share), share)
        speed = rate(state.count) if callable(rate) else rate
        # A component that is zero in both u and w is not pruned: it starts at zero.
        kept = map_marked(lambda rest, u: (u != 0) | ((rest == 0) & ~frozen), marks, state.residual, params)
        at_kept = map_marked(lambda g, m: jnp.where(m, g, 0), marks, updates, kept)
        steps_taken, inner_state = inner.update(at_kept, state.inner_state, params, **extra)
        ratios = _ratios(marks, updates, steps_taken, kept)

        def move(rest: Array, u: Array, change: Array, g: Array, m: Array, ratio: Array) -> Array:
            moved = jnp.where(m, u + change, -speed * ratio * g)
            return moved.astype(rest.dtype) + (1 - share).astype(rest.dtype) * rest

        # The residual comes first: an Equinox model in place of params holds more than arrays.
        w = map_marked(move, marks, state.residual, params, steps_taken, updates, kept, ratios)

        def thresholded() -> tuple[PyTree, tuple[Rule, ...]]:
            found = follow_sparsity(rules_now, marks, w)
            return map_rules(lambda r, ws: r.penalty.prox_leaves(ws, r.lam), found, marks, w), found

        def only_kept() -> tuple[PyTree, tuple[Rule, ...]]:
            return map_marked(lambda v, m: jnp.where(m, v, 0), marks, w, kept), state.rules

        u, rules_now = jax.lax.cond(frozen, only_kept, thresholded)
        residual = map_marked(lambda v, x: (v - x) * ~frozen, marks, w, u)
        changes = map_marked(lambda d, p, x: (x.astype(p.dtype) - p).astype(d.dtype), marks, steps_taken, params, u)
        count = optax.safe_increment(state.count)
        return changes, SparsifyState(count, marks, rules_now, share, inner_state, residual)

    return optax.GradientTransformationExtraArgs(init, update)


def _ratios(marks: Marks, gradients: PyTree, updates: PyTree, kept: PyTree) -> PyTree:
    """Returns r for each marked leaf: RMS(update) of the nonzero components over RMS(gradient).

    The gradient is that of the nonzero components, or that of the zero components if it is larger: then the latter move
    no faster than the former. Where a leaf has no nonzero components, those of all leaves stand in.
    """
    index = [i for i, rule in enumerate(marks.rules) if rule is not None]
    columns = [[marks.leaves(tree)[i] for i in index] for tree in (gradients, updates, kept)]
    sums = [_sums(*column) for column in zip(*columns, strict=True)]
    whole = jax.tree.map(lambda *parts: jnp.sum(jnp.stack(parts)), *sums)
    leaves = list(marks.leaves(gradients))
    for i, own in zip(index, sums, strict=True):
        here = jax.tree.map(lambda a, b, n=own.kept: jnp.where(n > 0, a, b), own, whole)
        root = lambda total, count: jnp.sqrt(total / jnp.maximum(count, 1))  # noqa: E731
        largest = jnp.maximum(root(here.gradient, here.kept), root(own.gradient_at_zeros, own.zeros))
        leaves[i] = jnp.where(largest > 0, root(here.update, here.kept) / jnp.where(largest > 0, largest, 1), 0)
    return marks.replace(gradients, leaves)


class _Sums(NamedTuple):
    """Sums of squares over the nonzero and the zero components of a leaf, and their numbers. Scalars, float32."""

    update: Array
    gradient: Array
    gradient_at_zeros: Array
    kept: Array
    zeros: Array


def _sums(gradient: Array, update: Array, kept: Array) -> _Sums:
    def total(values: Array, where: Array) -> Array:
        return jnp.sum(jnp.where(where, values, 0).astype(jnp.float32))

    g, d = (jnp.square(values.astype(jnp.float32)) for values in (gradient, update))
    count = total(jnp.ones_like(g), kept)
    return _Sums(total(d, kept), total(g, kept), total(g, ~kept), count, gradient.size - count)
