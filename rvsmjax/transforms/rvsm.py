"""Relaxed variable splitting as a gradient transformation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import DTypeLike

from rvsmjax import _checks
from rvsmjax._pytree import PyTree
from rvsmjax._sharding import varying
from rvsmjax.penalties import Penalty
from rvsmjax.penalties.top_k import SCOPES
from rvsmjax.transforms.follow import by_leaf, follow_sparsity, hold_sparsity
from rvsmjax.transforms.leaves.layouts import Layout, check_layout
from rvsmjax.transforms.leaves.marks import Marks, evaluate, map_marked, masked, require_arrays
from rvsmjax.transforms.leaves.selection import Mask
from rvsmjax.transforms.metric import Metric, next_metric, start_metric
from rvsmjax.transforms.precision import check_state_dtype, rounded
from rvsmjax.transforms.rules import (
    Overrides,
    Rule,
    make_rules,
    map_rules,
    mark_leaves,
    numbers_at,
    penalty_value,
)

LEAST = 1e-15
"""Least β of a schedule: one that starts at 0 pulls so little, and λ/β stays finite."""
SOLVE_EVERY, RARELY, LARGE = 10, 100, 10**7
"""Steps between solutions for λ by default; those with more than so many components."""


class SplittingCertificate(NamedTuple):
    """Splitting diagnostics summed over the selected leaves. Scalars, except ``support``.

    Attributes:
      penalty: Σ λP(u), float32; 0 for a constraint that holds.
      coupling: (β/2)‖w − u‖², float32.
      distance: ‖w − u‖, float32.
      support_changes: number of components of u that became zero or nonzero since the last update, int32.
      support: tree of boolean masks of the nonzero components of u at the last update.
    """

    penalty: Array
    coupling: Array
    distance: Array
    support_changes: Array
    support: PyTree


class RVSMState(NamedTuple):
    """State of ``rvsm``, from which ``sparse_params`` computes u.

    Attributes:
      count: number of updates, int32.
      marks: tree like the parameters, without arrays: the rule that applies to each leaf.
      rules: penalties and λ of the last update, schedules resolved.
      beta: β of the last update.
      u: u at its last refresh if ``update_every`` is given, else None.
      certificate: a ``SplittingCertificate`` on request, else None.
      metric: the metric of the last update, for the selected leaves that have one; None without.
    """

    count: Array  # type: ignore[assignment]  # optax's name, over the method of tuples
    marks: Marks
    rules: tuple[Rule, ...]
    beta: Array
    u: PyTree
    certificate: SplittingCertificate | None
    metric: PyTree = None

    def sparse(self, params: optax.Params) -> PyTree:
        """Returns ``params`` with the selected leaves replaced by their prox."""
        rules = follow_sparsity(self.rules, self.marks, params, self.beta, self.metric)
        return _prox(self._replace(rules=rules), params)


def rvsm(
    penalty: Penalty,
    lam: optax.ScalarOrSchedule | None = None,
    beta: optax.ScalarOrSchedule | None = None,
    mask: Mask = None,
    *,
    sparsity: optax.ScalarOrSchedule | None = None,
    scope: str = "global",
    update_every: int | None = None,
    solve_every: int | None = None,
    overrides: Overrides | None = None,
    certificate: bool = False,
    layout: Layout | None = None,
    metric: Metric = None,
    state_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Returns a transformation that adds the gradient of the relaxed penalty to the updates.

    .. math:: g \leftarrow g + \beta(w - u), \qquad u = \mathrm{prox}_{(\lambda/\beta)P}(w)

    Followed by gradient descent, this is RVSM on f(w) + λP(u) + (β/2)‖w − u‖²; ``unit_sphere`` at the end of the chain
    adds the normalization of A Algorithm 1. It can go at two positions in a chain. With r = β(w − u):

    - before the optimizer (coupled), r enters the moments: momentum m ← μm + (g + r), Adam's m and v see g + r;
    - after the moments and before the learning rate (decoupled), it does not: w ← w − η(m + r), like weight decay in
      AdamW: ``optax.chain(optax.trace(0.9), rvsm(...), optax.scale(-0.1))``.

    Behind a complete optimizer, whose updates already have the sign of −η, r would push w away from u.

    u is a function of w, computed by ``sparse_params``; the parameters are never overwritten.

    Args:
      penalty: P. Its fields may be schedules (``TopK(sparsity=schedule)``).
      lam: λ >= 0, a number or a schedule; not needed for a constraint such as ``TopK``, or if ``sparsity`` is given.
      beta: β > 0, a number or a schedule. The threshold is that of ``penalty`` at step λ/β.
      mask: which leaves, see ``select``.
      sparsity: fraction of zeros in u, in [0, 1), or a schedule of it, in place of ``lam``: λ is chosen so that u has
        it, to one component or one group.
      scope: whether ``sparsity`` holds for all leaves together with one λ (``"global"``), or for each with its own
        (``"leaf"``).
      update_every: steps between updates of u in r, >= 1; defaults to every step. If given, the state stores u.
      solve_every: steps between solutions for λ at a given ``sparsity``, >= 1; defaults to 10, with more than 10⁷
        components to 100. In the other steps λ/β stays as it was, which saves most of the time. ``sparse_params``
        always solves. With ``update_every``, λ is solved for where u is computed.
      overrides: other penalties, λ or sparsities for some leaves, by regular expression on the path (the first match
        wins): ``{"head": {"lam": 1e-5}, "stem": None}``; None skips the leaf.
      certificate: whether the state holds a ``SplittingCertificate``, at the cost of a second prox and one byte per
        component.
      layout: what each axis of a leaf means, by regular expression on the path: ``{"layers/": "stack in out"}``, see
        ``rvsmjax.transforms.Layout``. Each slice of a stack then counts as a leaf.
      metric: which weights matter: the diagonal of M > 0 in u = argmin_u ½ (u − w)ᵀM(u − w) + (λ/β)P(u), None for the
        identity. A tree like the parameters of arrays that broadcast to them, such as (in, 1), with None for leaves
        without one; or a function of the initial parameters that returns such a tree. The state holds it, for
        ``sparse_params``; ``update(..., metric=tree)`` replaces its numbers, such as by Adam's second moments, since a
        link of a chain does not see the state of another. The pull stays β(w − u).
      state_dtype: dtype of u in the state, with ``update_every``: None for that of the parameters, float32, or bfloat16
        for half the memory, by stochastic rounding.

    Raises:
      TypeError: if ``penalty`` is not a Penalty, an integer leaf is selected, or the prox has no closed form in the
        metric (a penalty that compares components, or shrinks groups in which M varies).
      ValueError: if λ < 0, β <= 0, ``update_every`` or ``solve_every`` < 1, ``state_dtype`` is another one, ``update``
        is called without ``params``, or a mask, override, layout or metric does not fit.

    Source: A Algorithm 1, I Algorithm 1; the metric: SAFE+ (arXiv 2506.06866) and ELSA (arXiv 2510.01650), for top-k.

    Example:
      >>> import rvsmjax as rv
      >>> w = jnp.array([1.0, 0.01])
      >>> tx = optax.chain(rv.rvsm(rv.L1(), lam=1e-4, beta=4e-3), optax.sgd(0.1))
      >>> updates, state = tx.update(jnp.zeros(2), tx.init(w), w)
      >>> rv.sparse_params(state, w).tolist()
      [0.975..., 0.0]
    """
    rules = make_rules(penalty, lam, overrides, sparsity)
    _checks.one_of("scope", scope, SCOPES)
    if beta is None:
        raise TypeError("beta must be a finite number > 0 or a schedule, got None")
    _checks.positive("beta", beta, schedule=True)
    layout = check_layout(layout)
    dtype = check_state_dtype(state_dtype)
    if update_every is not None:
        update_every = _checks.count("update_every", update_every)
    if solve_every is not None:
        solve_every = _checks.count("solve_every", solve_every)
    if callable(beta):
        scheduled = beta
        beta = lambda count: jnp.maximum(scheduled(count), LEAST)  # noqa: E731
    follows = any(rule.sparsity is not None for rule in rules)

    def steps_between(marks: Marks, params: optax.Params) -> int:
        if update_every or not follows:
            return update_every or 1
        return solve_every or (RARELY if sum(leaf.size for leaf in marks.marked(params)) > LARGE else SOLVE_EVERY)

    def init(params: optax.Params) -> RVSMState:
        marks = mark_leaves(params, mask, overrides, rules, layout)

        def start(params: optax.Params) -> RVSMState:
            count = jnp.zeros((), jnp.int32)
            now, strength = numbers_at(count, rules, beta)
            now = by_leaf(now, marks, params) if scope == "leaf" else now
            weights = start_metric(metric, marks, params, now)
            now = follow_sparsity(now, marks, params, strength, weights)
            state = RVSMState(count, marks, now, strength, None, None, weights)
            u = _prox(state, params) if update_every or certificate else None
            return state._replace(
                u=rounded(masked(marks, u), dtype, count) if update_every else None,
                certificate=_certify(state, params, u, None) if certificate else None,
            )

        return evaluate(start, params)

    def update(
        updates: optax.Updates, state: RVSMState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, RVSMState]:
        if params is None:
            raise ValueError("params must be passed to update: rvsm adds beta * (params - u)")
        require_arrays(state.marks, updates)
        weights = next_metric(state.metric, state.marks, extra.get("metric"))
        new_rules, new_beta = numbers_at(state.count, rules, beta, like=(state.rules, state.beta))
        old, state = state, state._replace(beta=new_beta, metric=weights)
        held = state._replace(rules=hold_sparsity(new_rules, old.rules, new_beta / old.beta))

        def refreshed() -> RVSMState:
            now = state._replace(rules=follow_sparsity(new_rules, state.marks, params, new_beta, weights))
            if not update_every:
                return now
            u = map_marked(lambda _, v: v, now.marks, state.u, _prox(now, params))  # params may be an Equinox model
            return now._replace(u=rounded(u, dtype, now.count))

        every = steps_between(state.marks, params)
        if every == 1:
            state = refreshed()
        else:
            chosen = state.marks.marked(params)
            due = state.count % every == 0
            state = jax.lax.cond(due, lambda: varying(refreshed(), chosen), lambda: varying(held, chosen))
        if update_every:
            force = map_marked(lambda w, u: w - u, state.marks, params, state.u)
        else:
            shrink = lambda r, ws: r.penalty.shrinkage_leaves(ws, r.lam / new_beta)  # noqa: E731
            force = map_rules(shrink, state.rules, state.marks, params, weights)
        updates = map_marked(lambda g, r: g + (new_beta * r).astype(g.dtype), state.marks, updates, force)
        checked = _certify(state, params, _prox(state, params), state.certificate) if certificate else None
        return updates, state._replace(count=optax.safe_increment(state.count), certificate=checked)

    return optax.GradientTransformationExtraArgs(init, update)


def _prox(state: RVSMState, params: optax.Params) -> PyTree:
    """Returns u at the state's λ."""
    prox = lambda r, ws: r.penalty.prox_leaves(ws, r.lam / state.beta)  # noqa: E731
    return map_rules(prox, state.rules, state.marks, params, state.metric)


def _certify(
    state: RVSMState, params: optax.Params, u: PyTree, last: SplittingCertificate | None
) -> SplittingCertificate:
    marks = state.marks
    supports = [
        optax.MaskedNode() if of is None else x != 0 for of, x in zip(marks.rules, marks.leaves(u), strict=True)
    ]
    support = jax.tree.unflatten(marks.structure, supports)  # u may be an Equinox model

    def total(function: Callable[..., Array], *trees: PyTree) -> Array:
        columns = zip(*map(state.marks.leaves, trees), strict=True)
        parts = [function(*xs) for rule, xs in zip(state.marks.rules, columns, strict=True) if rule is not None]
        return jnp.sum(jnp.asarray(parts))

    squares = total(lambda w, v: jnp.sum(jnp.square((w - v).astype(jnp.float32))), params, u)
    value = penalty_value(state.rules, state.marks, u)
    changes = jnp.zeros((), jnp.int32)
    if last is not None:
        changes = total(lambda a, b: jnp.sum(a != b, dtype=jnp.int32), support, last.support).astype(jnp.int32)
    beta = state.beta.astype(jnp.float32)
    return SplittingCertificate(value, beta / 2 * squares, jnp.sqrt(squares), changes, support)
