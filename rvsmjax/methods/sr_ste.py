"""SR-STE: N:M sparsity from dense weights, with a decay of the pruned ones in the gradient."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax import _checks
from rvsmjax._pytree import PyTree
from rvsmjax.geometry import working_dtype
from rvsmjax.penalties import NM
from rvsmjax.transforms.leaves.layouts import Layout, check_layout
from rvsmjax.transforms.leaves.marks import Marks, evaluate, map_marked, masked, require_arrays
from rvsmjax.transforms.leaves.selection import Mask
from rvsmjax.transforms.rules import make_rules, map_rules, mark_leaves


class SRSTEState(NamedTuple):
    """State of ``sr_ste``.

    Attributes:
      count: number of updates, int32.
      marks: which leaves, without arrays.
      inner_state: state of the optimizer, of the dense weights.
      residual: dense weights minus parameters for the selected leaves, at least float32: the pruned weights, and what
        rounding has left of the others.
    """

    count: Array  # type: ignore[assignment]  # optax's name; shadows tuple.count
    marks: Marks
    inner_state: optax.OptState
    residual: PyTree

    def sparse(self, params: optax.Params) -> PyTree:
        """Returns ``params``, which are sparse."""
        return params


def sr_ste(
    optimizer: optax.GradientTransformation,
    n: int = 2,
    m: int = 4,
    decay: optax.ScalarOrSchedule = 2e-4,
    *,
    axis: int = -2,
    mask: Mask = None,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Returns ``optimizer`` on dense weights w, with the parameters u = prox(w) that have n nonzeros in m.

    .. math:: w \leftarrow w + \mathrm{optimizer}\bigl(\nabla f(u) + \lambda\,(w - u)\bigr)

    The gradient is taken at u and moves all of w (the straight-through estimator); the decay of the pruned weights
    alone lets the pattern settle. With plain SGD this is ``sparsify`` with ``NM``, ``pull`` = learning rate · λ,
    ``rate=1``, ``dense=True``, and a pattern that is never frozen. Otherwise not: here the decay goes through the
    optimizer's momentum and scaling, and its weight decay acts on w. The first gradient is that at the parameters given
    to ``init``, and the first update makes them sparse.

    Args:
      optimizer: any optax optimizer, complete with its learning rate. Nothing may follow in a chain.
      n: nonzeros in each block, see ``NM``.
      m: length of a block.
      decay: λ >= 0, a number or a schedule.
      axis: axis along which blocks run.
      mask: which leaves, see ``select``.
      layout: what each axis of a leaf means, see ``rvsm``.

    Raises:
      TypeError: if an integer leaf is selected.
      ValueError: if a number is out of range, ``update`` is called without ``params``, or a mask or layout does not
        fit.

    Source: A. Zhou et al., arXiv 2102.04010, the update rule of SR-STE.

    Example:
      >>> import rvsmjax as rv
      >>> w = jnp.array([1.0, 0.1, -0.5, 0.2])
      >>> tx = rv.methods.sr_ste(optax.sgd(0.1))
      >>> updates, state = tx.update(w, tx.init(w), w)
      >>> (w + updates).tolist(), state.residual.tolist()
      ([0.8999999..., 0.0, -0.4499999..., 0.0], [0.0, 0.0900000..., 0.0, 0.1800000...])
    """
    rules = make_rules(NM(n, m, axis), None, None)
    layout = check_layout(layout)
    _checks.nonnegative("decay", decay, schedule=True)
    inner = optax.with_extra_args_support(optimizer)

    def init(params: optax.Params) -> SRSTEState:
        marks = mark_leaves(params, mask, None, rules, layout)
        wide = lambda params: map_marked(lambda p: jnp.asarray(p, working_dtype(p)), marks, params)  # noqa: E731
        zeros = masked(marks, map_marked(lambda p: jnp.zeros_like(p, working_dtype(p)), marks, params))
        return SRSTEState(jnp.zeros((), jnp.int32), marks, inner.init(evaluate(wide, params)), zeros)

    def update(
        updates: optax.Updates, state: SRSTEState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, SRSTEState]:
        if params is None:
            raise ValueError("params must be passed to update: sr_ste sets components of params + updates to 0")
        marks = state.marks
        require_arrays(marks, updates)
        lam = decay(state.count) if callable(decay) else decay
        dense = map_marked(lambda p, rest: p + rest, marks, params, state.residual)

        def decayed(g: Array, p: Array, rest: Array) -> Array:
            return g.astype(rest.dtype) + (lam * jnp.where(p == 0, rest, 0)).astype(rest.dtype)

        gradients = map_marked(decayed, marks, updates, params, state.residual)
        changes, inner_state = inner.update(gradients, state.inner_state, dense, **extra)
        dense = map_marked(lambda rest, p, d: p + rest + d, marks, state.residual, params, changes)
        u = map_rules(lambda rule, leaves: rule.penalty.prox_leaves(leaves, 1.0), rules, marks, dense)
        changes = map_marked(lambda d, p, x: x.astype(p.dtype) - p, marks, changes, params, u)
        residual = map_marked(lambda w, p, d: w - (p + d).astype(p.dtype), marks, dense, params, changes)
        return changes, SRSTEState(optax.safe_increment(state.count), marks, inner_state, residual)

    return optax.GradientTransformationExtraArgs(init, update)
