"""Relaxed variable splitting as a gradient transformation."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax.penalties import Penalty
from rvsmjax.transforms.selection import Mask, path_name, select


class RVSMState(NamedTuple):
    """What ``sparse_params`` needs to form u from the parameters; no copy of them.

    Attributes:
      penalty: tree of the parameters' structure, with the penalty at each leaf taken and ``MaskedNode`` elsewhere.
      lam: λ, a scalar.
      beta: β, a scalar.
    """

    penalty: Any
    lam: Array
    beta: Array


def rvsm(penalty: Penalty, lam: ArrayLike, beta: ArrayLike, mask: Mask = None) -> optax.GradientTransformationExtraArgs:
    r"""Returns a transformation that adds the gradient of the relaxed penalty to the updates.

    .. math:: g \leftarrow g + \beta(w - u), \qquad u = \mathrm{prox}_{(\lambda/\beta)P}(w)

    With gradient descent behind it this is RVSM on f(w) + λP(u) + (β/2)‖w − u‖²; ``unit_sphere`` at the end of the
    chain adds the normalisation of A Algorithm 1. Before momentum or Adam the penalty enters the moments (coupled),
    after them and before the learning rate it does not (decoupled). u is a function of w alone, found by
    ``sparse_params``.

    Args:
      penalty: P.
      lam: λ >= 0, a number.
      beta: β > 0, a number. The threshold is that of ``penalty`` at step λ/β.
      mask: which leaves, see ``select``.

    Raises:
      TypeError: ``penalty`` is no Penalty; an integer leaf is taken.
      ValueError: λ < 0 or β <= 0; ``params`` missing in ``update``; a mask that does not fit.

    Source: A Algorithm 1, I Algorithm 1.

    Example:
      >>> import rvsmjax as rv
      >>> w = jnp.array([1.0, 0.01])
      >>> tx = optax.chain(rv.rvsm(rv.L1(), lam=1e-4, beta=4e-3), optax.sgd(0.1))
      >>> updates, state = tx.update(jnp.zeros(2), tx.init(w), w)
      >>> rv.sparse_params(state, w).tolist()
      [0.975..., 0.0]
    """
    if not isinstance(penalty, Penalty):
        raise TypeError(f"penalty must be an instance of Penalty, got {penalty!r}")
    _checks.nonnegative("lam", lam)
    _checks.positive("beta", beta)

    def init(params: optax.Params) -> RVSMState:
        taken = select(params, mask)

        def place(path: Any, take: bool, leaf: Any) -> Any:
            if not take:
                return optax.MaskedNode()
            if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
                found = f"{jnp.result_type(leaf)} at {path_name(path)}"
                raise TypeError(f"params must be floating where the mask takes them, got {found}")
            return jax.tree.map(_strong, penalty)

        return RVSMState(jax.tree_util.tree_map_with_path(place, taken, params), _strong(lam), _strong(beta))

    def update(
        updates: optax.Updates, state: RVSMState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, RVSMState]:
        del extra
        if params is None:
            raise ValueError("params must be passed to update: rvsm adds beta * (params - u)")
        # The numbers of this call, not those of the last: optax.inject_hyperparams passes new ones at every step.
        state = RVSMState(state.penalty, _strong(lam).astype(state.lam.dtype), _strong(beta).astype(state.beta.dtype))
        step = state.lam / state.beta

        def split(rule: Any, g: Array, w: Array) -> Array:
            if isinstance(rule, optax.MaskedNode):
                return g
            return g + (state.beta * rule.shrinkage(w, step)).astype(g.dtype)

        return jax.tree.map(split, state.penalty, updates, params, is_leaf=_is_rule), state

    return optax.GradientTransformationExtraArgs(init, update)


def _strong(number: ArrayLike) -> Array:
    """An array of a fixed dtype, so that a state that was saved and loaded does not recompile."""
    array = jnp.asarray(number)
    return jax.lax.convert_element_type(array, array.dtype)


def _is_rule(node: Any) -> bool:
    return isinstance(node, (Penalty, optax.MaskedNode))
