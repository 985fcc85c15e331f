"""Diagonal metrics of the splitting transformations: which weights matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rvsmjax import _checks
from rvsmjax._pytree import PyTree, unboxed
from rvsmjax.geometry import working_dtype
from rvsmjax.transforms.leaves.layouts import is_masked
from rvsmjax.transforms.leaves.marks import Marks, evaluate, masked, metric_leaves
from rvsmjax.transforms.leaves.selection import difference
from rvsmjax.transforms.rules import Rule, map_rules

Metric = PyTree | Callable[[PyTree], PyTree] | None
"""None (the identity), a tree like the parameters, or a function of the initial parameters that returns one."""
SECOND_MOMENT = "second_moment"
FLOOR = 1e-8
"""Least entry of a second moment over its mean."""


def start_metric(metric: Metric, marks: Marks, params: PyTree, rules: Sequence[Rule]) -> PyTree:
    """Returns the metric for a new state: ``MaskedNode`` for leaves without one; None if ``metric`` is None.

    Args:
      metric: see ``Metric``.
      marks: marks of ``params``.
      params: the parameters, or their shapes.
      rules: the rules of the state, schedules resolved.

    Raises:
      TypeError: if an entry is not a number, or a penalty has no closed form in a metric.
      ValueError: if the structure or a shape does not fit, or a known entry is not finite and > 0.
    """
    if metric is None:
        return None
    if not jax.tree.leaves(params):  # optax's placeholder for the parameters
        return params

    def start(params: PyTree) -> PyTree:
        tree = metric(params) if callable(metric) else metric
        columns = zip(marks.paths_or_none, _leaves(marks, tree), marks.leaves(params), strict=True)
        leaves = [optax.MaskedNode() if _absent(name, m) else _checked(name, m, np.shape(p)) for name, m, p in columns]
        return masked(marks, marks.replace(params, leaves))

    def require_closed_forms(params: PyTree, started: PyTree) -> PyTree:
        return map_rules(lambda r, ws: r.penalty.prox_leaves(ws, r.lam), rules, marks, params, started)

    started = evaluate(start, params)
    jax.eval_shape(require_closed_forms, params, started)
    return started


def next_metric(now: PyTree, marks: Marks, given: PyTree) -> PyTree:
    """Returns the metric of the state, with the numbers of one passed to ``update`` in their place.

    Raises:
      TypeError: if the state holds no metric.
      ValueError: if the given one does not fit it.
    """
    if given is None:
        return now
    if now is None:
        raise TypeError("metric must be declared before update takes one, got it in update alone")
    names, old, new = marks.paths_or_none, metric_leaves(marks, now), _leaves(marks, given)
    leaves = [
        optax.MaskedNode() if a is None else a if _absent(name, b) else _checked(name, b, a.shape, a.dtype, whole=True)
        for name, a, b in zip(names, old, new, strict=True)
    ]
    return marks.replace(now, leaves)


def moments(state: optax.OptState, marks: Marks) -> PyTree:
    """Returns the second moments ``nu`` in the state of an Adam-like optimizer.

    Raises:
      ValueError: if there is not exactly one, or it lacks a selected leaf.
    """
    found = optax.tree.get_all_with_path(state, "nu")
    if len(found) != 1:
        rule = "metric 'second_moment' must find one second moment nu in the state of the optimizer"
        raise ValueError(f"{rule}, got {len(found)}")
    tree = found[0][1]
    rows = zip(marks.paths_or_none, _leaves(marks, tree), strict=True)
    lacking = [name for name, nu in rows if name is not None and is_masked(nu)]
    if lacking:
        raise ValueError(
            f"metric 'second_moment' must have a second moment for each selected leaf, got none at {lacking[0]}"
        )
    return tree


def second_moment(state: optax.OptState, marks: Marks) -> PyTree:
    """Returns the second moments ``nu`` in the state of an Adam-like optimizer, over their mean, as a metric.

    Over the mean of the selected leaves, as λ then does not depend on the scale of the gradients, nor on the bias
    correction, which is the same for all components.

    Raises:
      ValueError: see ``moments``.
    """
    tree = moments(state, marks)
    chosen = [nu for nu in metric_leaves(marks, tree) if nu is not None]
    mean = sum((jnp.sum(nu, dtype=working_dtype(nu)) for nu in chosen), jnp.float32(0))
    mean = mean / max(sum(nu.size for nu in chosen), 1)

    def relative(nu: Array) -> Array:
        share = nu.astype(working_dtype(nu)) / jnp.where(mean > 0, mean, 1)
        return jnp.where(mean > 0, jnp.maximum(share, FLOOR), 1)  # equal as long as there was no gradient

    return marks.replace(tree, [nu if is_masked(nu) else relative(nu) for nu in _leaves(marks, tree)])


def _leaves(marks: Marks, metric: PyTree) -> list[PyTree]:
    try:
        return marks.leaves(metric)
    except ValueError:
        if jax.tree_util.treedef_is_leaf(jax.tree.structure(metric)):
            raise ValueError(f"metric must have the structure of params, got {_checks.show(metric)}") from None
        where = difference(unboxed(metric), marks.template(), is_leaf=lambda node: node is None)
        raise ValueError(f"metric must have the structure of params, it differs at: {where}") from None


def _absent(name: str | None, m: PyTree) -> bool:
    return name is None or m is None or is_masked(m)


def _checked(
    name: str | None, m: PyTree, shape: tuple[int, ...], dtype: jnp.dtype | None = None, *, whole: bool = False
) -> Array:
    """Returns a leaf of a metric with the rank of ``shape``; broadcast to it if ``whole``."""
    at = f" at {name}" if name else ""
    known = _checks.known(m)
    if known is None and not isinstance(m, jax.Array):
        raise TypeError(f"metric must hold arrays of numbers > 0, got {_checks.show(m)}{at}")
    if known is not None and not (np.all(np.isfinite(known)) and np.all(known > 0)):
        worst = known[~(np.isfinite(known) & (known > 0))].ravel()[0]
        raise ValueError(f"metric must be finite and > 0, got {worst}{at}")
    try:
        fits = np.broadcast_shapes(np.shape(m), shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"metric must broadcast to shape {shape}, got shape {np.shape(m)}{at}")
    array = jnp.array(m, working_dtype(m) if dtype is None else dtype)  # a copy: the state may be donated
    return jnp.broadcast_to(array, shape) if whole else array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
