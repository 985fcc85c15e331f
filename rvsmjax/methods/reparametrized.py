"""Soft-threshold reparametrization: weights through a learned threshold for each leaf."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax import _checks
from rvsmjax._pytree import PyTree
from rvsmjax.geometry import working_dtype
from rvsmjax.penalties._arranged import STACK, stack_shape
from rvsmjax.transforms.leaves.layouts import Layout, check_layout
from rvsmjax.transforms.leaves.marks import Marks, evaluate, map_marked, masked, require_arrays
from rvsmjax.transforms.leaves.selection import Mask
from rvsmjax.transforms.rules import mark_leaves


class ReparametrizedState(NamedTuple):
    """State of ``soft_threshold_reparametrization``.

    Attributes:
      count: number of updates, int32.
      marks: which leaves, without arrays.
      v: the trained weights, for the selected leaves, at least float32.
      s: the trained numbers behind the thresholds, one for each selected leaf or slice of a stack, a float32 vector.
      inner_state: state of the optimizer of v and of the other leaves.
      threshold_state: state of the optimizer of s.
    """

    count: Array  # type: ignore[assignment]  # optax's name; shadows tuple.count
    marks: Marks
    v: PyTree
    s: Array
    inner_state: optax.OptState
    threshold_state: optax.OptState

    def sparse(self, params: optax.Params) -> PyTree:
        """Returns ``params``, which are sparse."""
        return params


def soft_threshold_reparametrization(
    optimizer: optax.GradientTransformation,
    decay: optax.ScalarOrSchedule = 5e-4,
    *,
    initial: float = -5.0,
    thresholds: optax.GradientTransformation | None = None,
    mask: Mask = None,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Returns ``optimizer`` on v and s, with the parameters w = sign(v)·max(|v| − σ(s), 0): STR.

    σ is the logistic function, s one number for each leaf. v and s are trained by the gradients through w. The decay
    adds λs to the gradient of s: it raises a negative s towards 0, and with it the threshold. No sparsity is promised:
    it follows from λ, the initial s, the learning rate and the number of steps, and is to be tried out.

    The first gradient is that at the parameters given to ``init``, which are the first v; the first update makes them
    sparse.

    Args:
      optimizer: any optax optimizer, complete with its learning rate. Nothing may follow in a chain.
      decay: λ >= 0, a number or a schedule.
      initial: first value of s. The paper has −3,200 to −12,800 for ImageNet: thresholds of 0, with no gradient at
        first, which the decay alone raises.
      thresholds: optimizer of the vector of all s. Defaults to ``optimizer``, as in the paper; the weight decay in it
        then acts on s, too.
      mask: which leaves, see ``select``.
      layout: what each axis of a leaf means, see ``rvsm``: each slice of a stack has its own s.

    Raises:
      TypeError: if an integer leaf is selected, or ``thresholds`` is missing beside an optimizer with a label or mask
        for each leaf.
      ValueError: if λ < 0, ``update`` is called without ``params``, or a mask or layout does not fit.

    Source: A. Kusupati et al., arXiv 2002.03231, section 3.

    Example:
      >>> import rvsmjax as rv
      >>> w = jnp.array([1.0, 0.1, -0.5, 0.2])
      >>> tx = rv.methods.soft_threshold_reparametrization(optax.sgd(0.1), initial=-1.0)
      >>> updates, state = tx.update(jnp.zeros(4), tx.init(w), w)
      >>> (w + updates).tolist()
      [0.7310..., 0.0, -0.2310..., 0.0]
    """
    layout = check_layout(layout)
    _checks.nonnegative("decay", decay, schedule=True)
    inner = optax.with_extra_args_support(optimizer)
    outer = optax.with_extra_args_support(optimizer if thresholds is None else thresholds)

    def init(params: optax.Params) -> ReparametrizedState:
        marks = mark_leaves(params, mask, None, layout=layout)
        # A copy: both the state and the parameters may be donated.
        wide = lambda params: map_marked(lambda p: jnp.array(p, working_dtype(p)), marks, params)  # noqa: E731
        v = evaluate(wide, params)
        rows = zip(marks.rules, marks.leaves(params), marks.axes, strict=True)
        number = sum(math.prod(stack_shape(axes, jnp.shape(p))) for rule, p, axes in rows if rule is not None)
        s = jnp.full(number, initial, jnp.float32)
        try:
            threshold_state = outer.init(s)
        except (TypeError, ValueError) as error:
            if thresholds is None:
                rule = "thresholds must be given beside an optimizer that does not take a single array: that of all s"
                raise TypeError(f"{rule}, got None") from error
            raise
        count = jnp.zeros((), jnp.int32)
        return ReparametrizedState(count, marks, masked(marks, v), s, inner.init(v), threshold_state)

    def update(
        updates: optax.Updates, state: ReparametrizedState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, ReparametrizedState]:
        if params is None:
            raise ValueError("params must be passed to update: soft_threshold_reparametrization sets them")
        marks = state.marks
        require_arrays(marks, updates)
        v = marks.marked(state.v)
        # s is no part of the parameters: extra arguments like ``value`` are not for its optimizer.
        _, pull = jax.vjp(lambda v, s: _weights(marks, v, s), v, state.s)
        by_v, by_s = pull([g.astype(x.dtype) for g, x in zip(marks.marked(updates), v, strict=True)])
        lam = decay(state.count) if callable(decay) else decay
        by_s = by_s + (lam * state.s).astype(by_s.dtype)
        each = iter(by_v)
        gradients = map_marked(lambda _: next(each), marks, updates)
        dense = map_marked(lambda _, x: x, marks, params, state.v)
        changes, inner_state = inner.update(gradients, state.inner_state, dense, **extra)
        change, threshold_state = outer.update(by_s, state.threshold_state, state.s)
        new_v = map_marked(lambda x, d: x + d.astype(x.dtype), marks, state.v, changes)
        new_s = state.s + change.astype(state.s.dtype)
        w = iter(_weights(marks, marks.marked(new_v), new_s))
        changes = map_marked(lambda _, p: next(w).astype(p.dtype) - p, marks, changes, params)
        count = optax.safe_increment(state.count)
        return changes, ReparametrizedState(count, marks, new_v, new_s, inner_state, threshold_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _weights(marks: Marks, leaves: Sequence[Array], s: Array) -> list[Array]:
    """Returns sign(v)·max(|v| − σ(s), 0) for the marked leaves."""
    of = [axes for axes, rule in zip(marks.axes, marks.rules, strict=True) if rule is not None]
    new, start = [], 0
    for v, axes in zip(leaves, of, strict=True):
        end = start + math.prod(stack_shape(axes, v.shape))
        stack = axes.where(STACK) if axes else ()
        own = [size if i in stack else 1 for i, size in enumerate(v.shape)]
        threshold = jax.nn.sigmoid(s[start:end]).reshape(own).astype(v.dtype)
        new.append(jnp.sign(v) * jax.nn.relu(jnp.abs(v) - threshold))
        start = end
    return new
