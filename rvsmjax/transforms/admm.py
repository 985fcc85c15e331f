"""The alternating direction method of multipliers as a gradient transformation."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax import _checks
from rvsmjax._pytree import PyTree
from rvsmjax.penalties import Penalty
from rvsmjax.transforms.rules import Overrides, Rule, make_rules, map_marked, map_rules, mark_leaves, masked, numbers_at
from rvsmjax.transforms.selection import Mask


class ADMMState(NamedTuple):
    """The splitting (u, z).

    Attributes:
      count: number of updates, int32.
      marks: tree like the parameters, with no numbers: which rule takes which leaf.
      rules: penalties and λ, as numbers of the last update.
      rho: ρ of the last update.
      u: the sparse iterate, of the leaves taken.
      z: the scaled dual variable, of the leaves taken.
    """

    count: Array  # type: ignore[assignment]  # optax's name, over the method of tuples
    marks: PyTree
    rules: tuple[Rule, ...]
    rho: Array
    u: PyTree
    z: PyTree

    def sparse(self, params: optax.Params) -> PyTree:
        """Returns ``params`` with the leaves taken replaced by the prox of w + z."""
        return self.project(map_marked(lambda w, z: (w + z).astype(w.dtype), self.marks, params, self.z))

    def project(self, tree: PyTree) -> PyTree:
        """Returns ``tree`` with the leaves taken replaced by their prox at step λ/ρ."""
        return map_rules(lambda r, vs: r.penalty.prox_leaves(vs, r.lam / self.rho), self.rules, self.marks, tree)


def admm(
    penalty: Penalty,
    rho: optax.ScalarOrSchedule,
    lam: optax.ScalarOrSchedule = 1.0,
    dual_every: int = 1,
    mask: Mask = None,
    *,
    overrides: Overrides | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Returns a transformation that adds the gradient of the augmented Lagrangian to the updates.

    .. math:: g \leftarrow g + \rho(w - u + z)

    and, every ``dual_every`` steps and before that, u ← prox_{(λ/ρ)P}(w + z), z ← z + w − u, with the scaled dual z.
    With gradient descent behind it this is ADMM whose w-step is that many gradient steps ("modified" ADMM). The first u
    is the prox of the start, the first z zero. For a constraint such as ``TopK`` the prox is the projection: by
    magnitude, ties to the lowest index, exact count.

    Args:
      penalty: P, a penalty or a constraint.
      rho: ρ > 0, a number or a schedule.
      lam: λ >= 0, a number or a schedule; without effect on a constraint.
      dual_every: steps between updates of u and z, >= 1.
      mask: which leaves, see ``select``.
      overrides: other penalties and λ for some leaves, see ``rvsm``.

    Raises:
      TypeError: ``penalty`` is no Penalty; an integer leaf is taken.
      ValueError: ρ <= 0, λ < 0 or ``dual_every`` < 1; ``params`` missing in ``update``; a mask that does not fit.

    Source: I section 3.3 and eq. 10.

    Example:
      >>> import rvsmjax as rv
      >>> w = jnp.array([1.0, 0.01])
      >>> tx = optax.chain(rv.admm(rv.TopK(k=1), rho=1e-2), optax.sgd(0.1))
      >>> updates, state = tx.update(jnp.zeros(2), tx.init(w), w)
      >>> rv.sparse_params(state, w).tolist()
      [1.0, 0.0]
    """
    rules = make_rules(penalty, lam, overrides)
    _checks.positive("rho", rho, schedule=True)
    _checks.integer("dual_every", dual_every, at_least=1)

    def init(params: optax.Params) -> ADMMState:
        count = jnp.zeros((), jnp.int32)
        marks = mark_leaves(params, mask, overrides)
        zeros = masked(marks, jax.tree.map(jnp.zeros_like, params))
        state = ADMMState(count, marks, *numbers_at(count, rules, rho), None, zeros)
        return state._replace(u=masked(marks, state.project(params)))

    def update(
        updates: optax.Updates, state: ADMMState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, ADMMState]:
        del extra
        if params is None:
            raise ValueError("params must be passed to update: admm adds rho * (params - u + z)")
        new_rules, rho_now = numbers_at(state.count, rules, rho, like=(state.rules, state.rho))
        state = state._replace(rules=new_rules, rho=rho_now)
        marks = state.marks

        def dual_step() -> tuple[PyTree, PyTree]:
            u = masked(marks, state.sparse(params))
            return u, map_marked(lambda z, w, v: (z + w - v).astype(z.dtype), marks, state.z, params, u)

        due = (state.count > 0) & (state.count % dual_every == 0)
        if isinstance(dual_every, int) and dual_every == 1:  # a branch would only spare the first step
            u, z = jax.tree.map(lambda new, old: jnp.where(due, new, old), dual_step(), (state.u, state.z))
        else:
            u, z = jax.lax.cond(due, dual_step, lambda: (state.u, state.z))

        def add(g: Array, w: Array, v: Array, y: Array) -> Array:
            return g + (rho_now * (w - v + y)).astype(g.dtype)

        new = map_marked(add, marks, updates, params, u, z)
        return new, state._replace(count=optax.safe_increment(state.count), u=u, z=z)

    return optax.GradientTransformationExtraArgs(init, update)
