"""The prox behind an optimizer: proximal gradient steps, also in the metric of Adam (ProxGen)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax import _checks
from rvsmjax._pytree import PyTree
from rvsmjax.geometry import working_dtype
from rvsmjax.penalties import Penalty
from rvsmjax.transforms.follow import follow_sparsity
from rvsmjax.transforms.leaves.layouts import Layout, check_layout
from rvsmjax.transforms.leaves.marks import Marks, map_marked, require_arrays
from rvsmjax.transforms.leaves.selection import Mask
from rvsmjax.transforms.metric import SECOND_MOMENT, moments, start_metric
from rvsmjax.transforms.precision import change_to
from rvsmjax.transforms.rules import Overrides, Rule, make_rules, map_rules, mark_leaves, numbers_at


class ProximalState(NamedTuple):
    """State of ``proximal``.

    Attributes:
      count: number of updates, int32.
      marks: the rule that applies to each leaf, without arrays.
      rules: penalties, λ and sparsities of the last update, schedules resolved; ηλ in place of λ if it follows a
        sparsity.
      rate: η of the last update.
      inner_state: state of the optimizer.
    """

    count: Array  # type: ignore[assignment]  # optax's name, over the method of tuples
    marks: Marks
    rules: tuple[Rule, ...]
    rate: Array
    inner_state: optax.OptState

    def sparse(self, params: optax.Params) -> PyTree:
        """Returns ``params``, which have gone through the prox."""
        return params


def proximal(
    optimizer: optax.GradientTransformation,
    penalty: Penalty,
    lam: optax.ScalarOrSchedule | None = None,
    *,
    rate: optax.ScalarOrSchedule,
    sparsity: optax.ScalarOrSchedule | None = None,
    metric: str | None = None,
    b2: float | Array | None = 0.999,
    eps: float | Array = 1e-8,
    mask: Mask = None,
    overrides: Overrides | None = None,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Returns ``optimizer`` followed by the prox: the parameters are sparse at every step.

    .. math:: w \leftarrow \operatorname{argmin}_x \tfrac1{2\eta}(x - w - \Delta)^\top C(x - w - \Delta) + \lambda P(x)

    Δ is the optimizer's update. Without a metric C = 1 and w ← prox_{ηλP}(w + Δ): with ``optax.sgd`` this is proximal
    gradient descent, with ``TopK`` iterative hard thresholding. With ``metric="second_moment"`` C = √v̂ + ε, the metric
    in which Adam takes its step, as in ProxGen: then a fixed point is a stationary point of f + λP; with C = 1 it is
    not.

    Compared with ``sparsify`` and ``bregman``, nothing is kept of what the prox takes away: a zero component becomes
    nonzero when a single update exceeds the threshold, where in those its updates add up.

    Args:
      optimizer: any optax optimizer, complete with its learning rate. Nothing may follow in a chain.
      penalty: P. In the metric: ℓ1, ℓ0, transformed ℓ1, top-k, N:M, and groups of those that keep or remove.
      lam: λ >= 0, a number or a schedule; not needed for a constraint, or if ``sparsity`` is given.
      rate: η, the learning rate of the optimizer, a number or a schedule.
      sparsity: fraction of zeros over all leaves, in [0, 1), or a schedule of it, in place of ``lam``. η has no effect.
      metric: None or ``"second_moment"``, for an optimizer whose state holds one second moment, ``nu``.
      b2: decay of v in the optimizer, whose bias it corrects; None if it does not, as ``optax.rmsprop``.
      eps: ε of the optimizer, > 0.
      mask: which leaves, see ``select``.
      overrides: other penalties, λ or sparsities for some leaves, see ``rvsm``.
      layout: what each axis of a leaf means, see ``rvsm``.

    Raises:
      TypeError: if ``penalty`` is not a Penalty, λ and ``sparsity`` are both given, or neither for a penalty that is no
        constraint; if an integer leaf is selected, or the prox has no closed form in the metric.
      ValueError: if a number is out of range, ``update`` is called without ``params``, a mask, override or layout does
        not fit, or the state of the optimizer has no second moment, or several.

    Source: Yun et al., arXiv 2007.07484 (ProxGen), here with the bias correction of optax. Prox-SGD (Yang et al., ICLR
    2020) moves only a part of the way, w ← w + η(x − w), with the prox x at step λ/τ: its zeros are exact in the limit.

    Example:
      >>> import rvsmjax as rv
      >>> w = jnp.array([1.0, 0.05])
      >>> tx = proximal(optax.sgd(0.1), rv.L1(), lam=1.0, rate=0.1)
      >>> updates, state = tx.update(jnp.zeros(2), tx.init(w), w)
      >>> optax.apply_updates(w, updates).tolist()
      [0.89..., 0.0]
    """
    rules = make_rules(penalty, lam, overrides, sparsity)
    layout = check_layout(layout)
    _checks.nonnegative("rate", rate, schedule=True)
    _checks.positive("eps", eps)
    if b2 is not None:
        _checks.fraction("b2", b2)
    if metric is not None:
        _checks.one_of("metric", metric, (SECOND_MOMENT,))
    inner = optax.with_extra_args_support(optimizer)

    def root(state: optax.OptState, marks: Marks, count: Array) -> PyTree:
        """Returns √v̂ + ε for the selected leaves after ``count`` updates."""
        correction = 1.0 if b2 is None else 1 - jnp.asarray(b2) ** count

        def one(nu: Array) -> Array:
            nu = nu.astype(working_dtype(nu))
            return (jnp.sqrt(nu / correction) + eps).astype(nu.dtype)

        return map_marked(one, marks, moments(state, marks))

    def init(params: optax.Params) -> ProximalState:
        count = jnp.zeros((), jnp.int32)
        marks = mark_leaves(params, mask, overrides, rules, layout)
        now, eta = numbers_at(count, rules, rate)
        start = inner.init(params)
        if metric is not None:  # raises where there is no closed form
            start_metric(lambda _: root(start, marks, count + 1), marks, params, now)
        return ProximalState(count, marks, now, eta, start)

    def update(
        updates: optax.Updates, state: ProximalState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, ProximalState]:
        if params is None:
            raise ValueError("params must be passed to update: proximal takes the prox of params + updates")
        marks, count = state.marks, optax.safe_increment(state.count)
        require_arrays(marks, updates)
        now, eta = numbers_at(state.count, rules, rate, like=(state.rules, state.rate))
        steps, inner_state = inner.update(updates, state.inner_state, params, **extra)
        weights = None if metric is None else root(inner_state, marks, count)

        def moved(d: Array, p: Array) -> Array:
            dtype = working_dtype(p)
            return p.astype(dtype) + d.astype(dtype)

        def prox(rule: Rule, ws: list[Array]) -> list[Array]:
            return rule.penalty.prox_leaves(ws, rule.lam if rule.sparsity is not None else eta * rule.lam)

        w = map_marked(moved, marks, steps, params)
        now = follow_sparsity(now, marks, w, metric=weights)
        new = map_rules(prox, now, marks, w, weights)
        changes = map_marked(change_to, marks, steps, params, new)
        return changes, ProximalState(count, marks, now, eta, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)
