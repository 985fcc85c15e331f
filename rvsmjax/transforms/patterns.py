"""Transformations for the end of a chain that control which parameters are zero."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._pytree import PyTree
from rvsmjax.penalties import TopK
from rvsmjax.transforms.leaves.layouts import Layout, check_layout, is_masked
from rvsmjax.transforms.leaves.marks import Marks, evaluate, map_leaf_slices, map_marked, masked, require_arrays
from rvsmjax.transforms.leaves.selection import Mask, path_name, require_same_structure
from rvsmjax.transforms.rules import mark_leaves


class HardThresholdState(NamedTuple):
    """State of ``adaptive_hard_threshold``: the leaves to threshold. Holds no arrays."""

    marks: Marks


def adaptive_hard_threshold(
    s: ArrayLike, mask: Mask = None, *, layout: Layout | None = None
) -> optax.GradientTransformationExtraArgs:
    """Returns a transformation that makes each selected leaf s-sparse whenever its support changes.

    Goes last in a chain. With ŵ = params + updates: if the s largest components of ŵ differ from those of params, the
    new parameters are H_s(ŵ), otherwise ŵ.

    Args:
      s: number of components kept, >= 1.
      mask: which leaves, see ``select``.
      layout: what each axis of a leaf means, see ``rvsm``: each slice of a stack is thresholded by itself.

    Raises:
      ValueError: if ``s`` is not a whole number >= 1, ``update`` is called without ``params``, or a mask or layout does
        not fit.

    Source: A Algorithm 2.

    Example:
      >>> w = jnp.array([1.0, 0.5, 0.0])
      >>> tx = adaptive_hard_threshold(1)
      >>> updates, _ = tx.update(jnp.array([-0.6, 0.1, 0.1]), tx.init(w), w)
      >>> (w + updates).tolist()
      [0.0, 0.6..., 0.0]
    """
    _checks.integer("s", s, at_least=1)
    layout = check_layout(layout)
    projection = TopK(k=s)

    def init(params: optax.Params) -> HardThresholdState:
        return HardThresholdState(mark_leaves(params, mask, None, layout=layout))

    def update(
        updates: optax.Updates, state: HardThresholdState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, HardThresholdState]:
        del extra
        if params is None:
            raise ValueError("params must be passed to update: adaptive_hard_threshold acts on params + updates")

        def threshold(g: Array, w: Array) -> Array:
            new = w + g
            kept = projection.prox(new)
            moved = jnp.any((kept != 0) != (projection.prox(w) != 0))
            return jnp.where(moved, (kept - w).astype(g.dtype), g)

        return map_leaf_slices(threshold, state.marks, updates, params), state

    return optax.GradientTransformationExtraArgs(init, update)


class KeepZerosState(NamedTuple):
    """State of ``keep_zeros``: the mask of free components, for the selected leaves, and which these are."""

    support: PyTree
    marks: Marks


def keep_zeros(pattern: PyTree = None, mask: Mask = None) -> optax.GradientTransformationExtraArgs:
    """Returns a transformation that freezes a sparsity pattern for fine-tuning. Goes last in a chain.

    Components outside the pattern are set to 0 and stay 0, whatever the momentum or weight decay earlier in the chain.

    Args:
      pattern: tree of booleans like the parameters, True where a component may be nonzero (see ``sparsity_mask``).
        ``None`` uses the nonzeros of the parameters passed to ``init``.
      mask: which leaves, see ``select``; the others are unconstrained.

    Raises:
      ValueError: if ``update`` is called without ``params`` or an update of a selected leaf, or the pattern does not
        match the parameters.

    Example:
      >>> w = jnp.array([1.0, 0.0])
      >>> tx = optax.chain(optax.sgd(0.5, momentum=0.9), keep_zeros())
      >>> updates, _ = tx.update(jnp.array([1.0, 1.0]), tx.init(w), w)
      >>> (w + updates).tolist()
      [0.5, 0.0]
    """

    def init(params: optax.Params) -> KeepZerosState:
        marks = mark_leaves(params, mask, None)
        if pattern is None or not marks.rules:
            support = evaluate(lambda params: map_marked(lambda w: w != 0, marks, params), params)
        else:
            kept = _without_masked(pattern, params)
            require_same_structure("pattern", kept, params)
            pairs = zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(kept), strict=True)
            for (path, leaf), keep in pairs:
                if jnp.shape(leaf) != jnp.shape(keep):
                    raise ValueError(
                        f"pattern must have the shapes of params, got {jnp.shape(keep)} instead of {jnp.shape(leaf)} "
                        f"at {path_name(path)}"
                    )
            support = jax.tree.map(lambda p: jnp.array(p, bool), kept)  # a copy: the state may be donated
        return KeepZerosState(masked(marks, support), marks)

    def update(
        updates: optax.Updates, state: KeepZerosState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, KeepZerosState]:
        del extra
        if params is None:
            raise ValueError("params must be passed to update: keep_zeros sets params + updates to 0")
        require_arrays(state.marks, updates)

        def freeze(g: Array, w: Array, support: Array) -> Array:
            return jnp.where(support, g, -w)  # promoted: in the dtype of g, w − w might not be 0

        return map_marked(freeze, state.marks, updates, params, state.support), state

    return optax.GradientTransformationExtraArgs(init, update)


def _without_masked(pattern: PyTree, params: optax.Params) -> PyTree:
    """Returns a pattern of all parameters without those that ``optax.masked`` has taken out of ``params``."""
    if not any(map(is_masked, jax.tree.leaves(params, is_leaf=is_masked))):
        return pattern
    try:
        return jax.tree.map(lambda w, keep: w if is_masked(w) else keep, params, pattern, is_leaf=is_masked)
    except ValueError:  # the caller says where they differ
        return pattern
