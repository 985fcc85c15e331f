"""Export of sparse parameters: conversion to BCOO, and checks of N:M patterns."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rvsmjax._pytree import PyTree
from rvsmjax.penalties import NM
from rvsmjax.penalties._arranged import Axes
from rvsmjax.transforms.leaves.layouts import Layout, selected_leaves
from rvsmjax.transforms.leaves.selection import Mask, select


def to_bcoo(params: PyTree, mask: Mask = None) -> PyTree:
    """Returns ``params`` with the selected leaves as ``jax.experimental.sparse.BCOO``: nonzero values and indices.

    Each index takes 4 bytes per axis, so a float32 matrix shrinks once more than two thirds of it are zeros.

    Args:
      params: tree of arrays; pass u, not w. Does not work inside ``jit``: the number of nonzeros is a shape.
      mask: which leaves, see ``rvsmjax.transforms.select``; the others are unchanged.

    Example:
      >>> u = {"kernel": jnp.array([[0.0, 2.0], [0.0, 0.0]]), "bias": jnp.zeros(2)}
      >>> to_bcoo(u)["kernel"].nse
      1
    """
    from jax.experimental.sparse import BCOO  # imports SciPy's sparse matrices: a third of a second

    def sparse(x: PyTree) -> PyTree:
        # NumPy: BCOO.fromdense would recompile for each shape and number of nonzeros.
        dense = np.asarray(x)
        kept = dense != 0
        data, indices = jnp.asarray(dense[kept]), jnp.asarray(np.argwhere(kept), jnp.int32)
        return BCOO((data, indices), shape=dense.shape, indices_sorted=True, unique_indices=True)

    return jax.tree.map(lambda selected, x: sparse(x) if selected else x, select(params, mask), params)


def from_bcoo(params: PyTree) -> PyTree:
    """Returns ``params`` with every BCOO leaf as a dense array; inverse of ``to_bcoo``.

    Args:
      params: tree of arrays and BCOO leaves.

    Example:
      >>> from_bcoo(to_bcoo({"kernel": jnp.eye(2)}))["kernel"].tolist()
      [[1.0, 0.0], [0.0, 1.0]]
    """
    from jax.experimental.sparse import BCOO

    def is_sparse(x: PyTree) -> bool:
        return isinstance(x, BCOO)

    return jax.tree.map(lambda x: x.todense() if is_sparse(x) else x, params, is_leaf=is_sparse)


def nm_violations(
    params: PyTree, n: int = 2, m: int = 4, mask: Mask = None, *, axis: int = -2, layout: Layout | None = None
) -> dict[str, int]:
    """Returns, by path, the number of blocks of m components with more than n nonzeros; 0 if the pattern holds.

    Args:
      params: tree of arrays: u, or its boolean mask (``sparsity_mask``).
      n: largest number of nonzero components in a block, 1 <= n <= m.
      m: block length.
      mask: which leaves, see ``rvsmjax.transforms.select``.
      axis: axis along which blocks run, see ``NM``.
      layout: what each axis of a leaf means, see ``rvsmjax.rvsm``.

    Raises:
      ValueError: n or m is out of range, a leaf's axis length is not a multiple of m, or a mask or layout does not fit.

    Example:
      >>> nm_violations({"kernel": jnp.ones((4, 3)).at[0, 1].set(0)}, n=3)
      {'kernel': 2}
    """
    pattern = NM(n, m, axis)

    def violations(leaf: Array, axes: Axes | None) -> int:
        slices = [leaf] if axes is None else axes.split(jnp.asarray(leaf))
        return sum(int(np.sum(pattern.overfull(x))) for x in slices)

    return {name: violations(leaf, axes) for name, leaf, axes in selected_leaves(params, mask, layout, pattern)}
