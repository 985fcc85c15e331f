"""ELSA: ADMM that projects in the metric of Adam's second moment."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import DTypeLike

from rvsmjax import _checks
from rvsmjax._pytree import PyTree
from rvsmjax.penalties import TopK
from rvsmjax.transforms.admm import ADMMState, admm
from rvsmjax.transforms.leaves.layouts import Layout
from rvsmjax.transforms.leaves.marks import Marks, map_marked
from rvsmjax.transforms.leaves.selection import Mask
from rvsmjax.transforms.metric import second_moment, start_metric
from rvsmjax.transforms.rules import Overrides, Rule


class ElsaState(NamedTuple):
    """State of ``elsa``.

    Attributes:
      admm: state of ``admm``, without the metric, which is in ``inner_state``.
      inner_state: state of the optimizer.
    """

    admm: ADMMState
    inner_state: optax.OptState

    @property
    def count(self) -> Array:  # type: ignore[override]  # optax's name, over the method of tuples
        """Number of updates, int32."""
        return self.admm.count

    @property
    def marks(self) -> Marks:
        """The rule that applies to each leaf, without arrays."""
        return self.admm.marks

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Penalties and λ of the last update."""
        return self.admm.rules

    @property
    def rho(self) -> Array:
        """ρ of the last update."""
        return self.admm.rho

    def sparse(self, params: optax.Params) -> PyTree:
        """Returns ``params`` with the selected leaves replaced by the projection of w + z."""
        return self.with_metric().sparse(params)

    def with_metric(self) -> ADMMState:
        """Returns the state of ``admm`` with the second moment as its metric."""
        return self.admm._replace(metric=second_moment(self.inner_state, self.marks))


def elsa(
    optimizer: optax.GradientTransformation,
    sparsity: optax.ScalarOrSchedule,
    rho: optax.ScalarOrSchedule,
    *,
    every: int = 32,
    scope: str = "leaf",
    mask: Mask = None,
    overrides: Overrides | None = None,
    layout: Layout | None = None,
    state_dtype: DTypeLike | None = "bfloat16",
) -> optax.GradientTransformationExtraArgs:
    r"""Returns ``admm`` around an Adam-like optimizer, whose second moment v says which weights matter.

    .. math:: u = \operatorname{argmin}_{\|x\|_0 \le k} \sum_i v_i\,(x_i - w_i - z_i)^2, \qquad z \leftarrow z + w - u

    So the components with the largest v(w + z)² stay: v estimates the diagonal of the Fisher matrix, and so of the
    Hessian. This is ``admm(TopK(sparsity=…), rho, dual_every=every, metric=…)`` followed by ``optimizer``, with the
    metric of each update read from the state of the optimizer, in which optax calls it ``nu``; it is not stored twice.

    Args:
      optimizer: an optax optimizer with one second moment, such as ``optax.adam``, complete with its learning rate.
      sparsity: fraction of zeros, in [0, 1), or a schedule of it.
      rho: ρ > 0, a number or a schedule; λ in the source. Its value holds from one projection to the next. When it
        changes, z is multiplied by the old ρ over the new one, since ρz is the dual variable.
      every: steps between updates of u and z, >= 1.
      scope: whether the sparsity holds for each leaf (``"leaf"``) or for all leaves together (``"global"``).
      mask: which leaves, see ``select``.
      overrides: other penalties for some leaves, see ``rvsm``: ``{"mlp": {"penalty": NM(2, 4)}}``.
      layout: what each axis of a leaf means, see ``rvsm``.
      state_dtype: dtype of u and z in the state, see ``admm``.

    Raises:
      TypeError: see ``admm``.
      ValueError: see ``admm``; if the state of the optimizer has no second moment, or several.

    Source: Lee et al., arXiv 2510.01650, and their code: the projection, the projection per leaf every 32 steps, ρ
    constant or rising. Theirs rounds u and z to the nearest number in bfloat16, or in 8 bits, where rounding here is
    stochastic, and rescales z at the projection after the one at which ρ changes. The last projection is part of
    ``sparse_params``.

    Example:
      >>> import rvsmjax as rv
      >>> w, tx = jnp.array([1.0, 0.9]), elsa(optax.adam(1e-3), sparsity=0.5, rho=0.01)
      >>> _, state = tx.update(jnp.array([0.1, 1.0]), tx.init(w), w)
      >>> rv.sparse_params(state, w).tolist()
      [0.0, 0.89...]
    """
    _checks.integer("every", every, at_least=1)

    def split(rho: optax.ScalarOrSchedule) -> optax.GradientTransformationExtraArgs:
        return admm(
            TopK(sparsity=sparsity, scope=scope),
            rho,
            dual_every=every,
            mask=mask,
            overrides=overrides,
            layout=layout,
            state_dtype=state_dtype,
        )

    start = split(rho)
    inner = optax.with_extra_args_support(optimizer)

    def init(params: optax.Params) -> ElsaState:
        state = ElsaState(start.init(params), inner.init(params))
        # Raises where there is no second moment, or no closed form.
        start_metric(lambda _: second_moment(state.inner_state, state.marks), state.marks, params, state.rules)
        return state

    def update(
        updates: optax.Updates, state: ElsaState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, ElsaState]:
        if params is None:
            raise ValueError("params must be passed to update: elsa adds rho * (params - u + z)")
        before = state.with_metric()
        due = state.count % every == 0
        held = jnp.where(due, rho(state.count) if callable(rho) else rho, state.rho).astype(state.rho.dtype)
        ratio = jnp.where(held > 0, state.rho / jnp.where(held > 0, held, 1), 1)
        before = before._replace(z=map_marked(lambda z: (ratio * z).astype(z.dtype), state.marks, before.z))
        pulled, after = split(lambda _: held).update(updates, before, params)
        steps, inner_state = inner.update(pulled, state.inner_state, params, **extra)
        return steps, ElsaState(after._replace(metric=None), inner_state)

    return optax.GradientTransformationExtraArgs(init, update)
