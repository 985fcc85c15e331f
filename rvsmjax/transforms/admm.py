"""The alternating direction method of multipliers as a gradient transformation."""

from __future__ import annotations

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
from rvsmjax.transforms.leaves.layouts import Layout, check_layout
from rvsmjax.transforms.leaves.marks import Marks, evaluate, map_marked, masked, require_arrays
from rvsmjax.transforms.leaves.selection import Mask
from rvsmjax.transforms.metric import Metric, next_metric, start_metric
from rvsmjax.transforms.precision import check_state_dtype, rounded
from rvsmjax.transforms.rules import Overrides, Rule, make_rules, map_rules, mark_leaves, numbers_at


class ADMMState(NamedTuple):
    """State of ``admm``.

    Attributes:
      count: number of updates, int32.
      marks: tree like the parameters, without arrays: the rule that applies to each leaf.
      rules: penalties and λ of the last update, schedules resolved.
      rho: ρ of the last update.
      u: the sparse iterate, for the selected leaves.
      z: the scaled dual variable, for the selected leaves.
      metric: the metric of the last update, for the selected leaves that have one; None without.
    """

    count: Array  # type: ignore[assignment]  # optax's name; shadows tuple.count
    marks: Marks
    rules: tuple[Rule, ...]
    rho: Array
    u: PyTree
    z: PyTree
    metric: PyTree = None

    def sparse(self, params: optax.Params) -> PyTree:
        """Returns ``params`` with the selected leaves replaced by the prox of w + z."""
        return self.project(map_marked(lambda w, z: (w + z).astype(w.dtype), self.marks, params, self.z))

    def project(self, tree: PyTree) -> PyTree:
        """Returns ``tree`` with the selected leaves replaced by their prox at step λ/ρ."""
        return map_rules(
            lambda r, vs: r.penalty.prox_leaves(vs, r.lam / self.rho), self.rules, self.marks, tree, self.metric
        )


def admm(
    penalty: Penalty,
    rho: optax.ScalarOrSchedule,
    lam: optax.ScalarOrSchedule = 1.0,
    dual_every: int = 1,
    mask: Mask = None,
    *,
    overrides: Overrides | None = None,
    layout: Layout | None = None,
    metric: Metric = None,
    state_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Returns a transformation that adds the gradient of the augmented Lagrangian to the updates.

    .. math:: g \leftarrow g + \rho(w - u + z)

    Every ``dual_every`` steps, before the addition, u ← prox_{(λ/ρ)P}(w + z) and z ← z + w − u, where z is the scaled
    dual variable. Followed by gradient descent, this is ADMM with ``dual_every`` gradient steps as its w-step
    ("modified" ADMM). Initially u is the prox of the parameters and z is zero. For a constraint such as ``TopK`` the
    prox is the projection.

    Args:
      penalty: P, a penalty or a constraint.
      rho: ρ > 0, a number or a schedule.
      lam: λ >= 0, a number or a schedule; no effect on a constraint.
      dual_every: steps between updates of u and z, >= 1.
      mask: which leaves, see ``select``.
      overrides: other penalties and λ for some leaves, see ``rvsm``.
      layout: what each axis of a leaf means, see ``rvsm``.
      metric: which weights matter: the metric in which u is nearest to w + z, see ``rvsm``. The pull is without it.
      state_dtype: dtype of u and z in the state: None for that of the parameters, float32, or bfloat16 for half the
        memory, by stochastic rounding: small steps of z add up.

    Raises:
      TypeError: if ``penalty`` is not a Penalty, an integer leaf is selected, or the prox has no closed form in the
        metric.
      ValueError: if ρ <= 0, λ < 0, ``dual_every`` < 1, ``state_dtype`` is another one, ``update`` is called without
        ``params``, or a mask, override, layout or metric does not fit.

    Source: I section 3.3 and eq. 10; the metric, and u and z in bfloat16: ELSA (arXiv 2510.01650).

    Example:
      >>> import rvsmjax as rv
      >>> w = jnp.array([1.0, 0.01])
      >>> tx = optax.chain(rv.admm(rv.TopK(k=1), rho=1e-2), optax.sgd(0.1))
      >>> updates, state = tx.update(jnp.zeros(2), tx.init(w), w)
      >>> rv.sparse_params(state, w).tolist()
      [1.0, 0.0]
    """
    rules = make_rules(penalty, lam, overrides)
    layout = check_layout(layout)
    dtype = check_state_dtype(state_dtype)
    _checks.positive("rho", rho, schedule=True)
    _checks.integer("dual_every", dual_every, at_least=1)

    def init(params: optax.Params) -> ADMMState:
        count = jnp.zeros((), jnp.int32)
        marks = mark_leaves(params, mask, overrides, rules, layout)
        zeros = masked(marks, map_marked(jnp.zeros_like, marks, params))
        now, strength = numbers_at(count, rules, rho)
        weights = start_metric(metric, marks, params, now)
        state = ADMMState(count, marks, now, strength, None, zeros, weights)
        start = lambda params: rounded((masked(marks, state.project(params)), zeros), dtype, count)  # noqa: E731
        u, z = evaluate(start, params)
        return state._replace(u=u, z=z)

    def update(
        updates: optax.Updates, state: ADMMState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, ADMMState]:
        if params is None:
            raise ValueError("params must be passed to update: admm adds rho * (params - u + z)")
        new_rules, rho_now = numbers_at(state.count, rules, rho, like=(state.rules, state.rho))
        marks = state.marks
        require_arrays(marks, updates)
        weights = next_metric(state.metric, marks, extra.get("metric"))
        state = state._replace(rules=new_rules, rho=rho_now, metric=weights)

        def dual_step() -> tuple[PyTree, PyTree]:
            u = map_marked(lambda _, v: v, marks, state.u, state.sparse(params))  # params may be an Equinox model
            z = map_marked(lambda z, w, v: (z + w - v).astype(w.dtype), marks, state.z, params, u)
            return varying(rounded((u, z), dtype, state.count), marks.marked(params))

        due = (state.count > 0) & (state.count % dual_every == 0)
        if isinstance(dual_every, int) and dual_every == 1:  # a branch would save only the first step
            u, z = jax.tree.map(lambda new, old: jnp.where(due, new, old), dual_step(), (state.u, state.z))
        else:
            u, z = jax.lax.cond(due, dual_step, lambda: varying((state.u, state.z), marks.marked(params)))

        def add(g: Array, w: Array, v: Array, y: Array) -> Array:
            return g + (rho_now * (w - v + y)).astype(g.dtype)

        new = map_marked(add, marks, updates, params, u, z)
        return new, state._replace(count=optax.safe_increment(state.count), u=u, z=z)

    return optax.GradientTransformationExtraArgs(init, update)
