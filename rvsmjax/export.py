"""Sparse parameters in the forms that other programs take: BCOO, and N:M patterns that are checked."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rvsmjax._pytree import PyTree
from rvsmjax.penalties import NM
from rvsmjax.transforms.selection import Mask, path_name, select


def to_bcoo(params: PyTree, mask: Mask = None) -> PyTree:
    """Returns ``params`` with the leaves taken as ``jax.experimental.sparse.BCOO``: the nonzero numbers, their places.

    A place takes 4 bytes an axis: a matrix in float32 gets smaller from two thirds of zeros on.

    Args:
      params: tree of arrays; pass u, not w. Not inside ``jit``: the number of zeros is a shape.
      mask: which leaves, see ``rvsmjax.transforms.select``; the others stay as they are.

    Example:
      >>> u = {"kernel": jnp.array([[0.0, 2.0], [0.0, 0.0]]), "bias": jnp.zeros(2)}
      >>> to_bcoo(u)["kernel"].nse
      1
    """
    from jax.experimental.sparse import BCOO  # brings SciPy's sparse matrices: a third of a second

    def sparse(x: PyTree) -> PyTree:
        # By NumPy: BCOO.fromdense would be compiled anew for each shape and number of zeros.
        dense = np.asarray(x)
        kept = dense != 0
        data, indices = jnp.asarray(dense[kept]), jnp.asarray(np.argwhere(kept), jnp.int32)
        return BCOO((data, indices), shape=dense.shape, indices_sorted=True, unique_indices=True)

    return jax.tree.map(lambda take, x: sparse(x) if take else x, select(params, mask), params)


def from_bcoo(params: PyTree) -> PyTree:
    """Returns ``params`` with every BCOO as an array again: what ``to_bcoo`` was given.

    Args:
      params: tree of arrays and BCOO.

    Example:
      >>> from_bcoo(to_bcoo({"kernel": jnp.eye(2)}))["kernel"].tolist()
      [[1.0, 0.0], [0.0, 1.0]]
    """
    from jax.experimental.sparse import BCOO

    def is_sparse(x: PyTree) -> bool:
        return isinstance(x, BCOO)

    return jax.tree.map(lambda x: x.todense() if is_sparse(x) else x, params, is_leaf=is_sparse)


def nm_violations(params: PyTree, n: int = 2, m: int = 4, mask: Mask = None, *, axis: int = -2) -> dict[str, int]:
    """Returns, by path, in how many blocks of m a leaf has more than n nonzero components; 0: the pattern holds.

    Args:
      params: tree of arrays, u or its mask of booleans (``sparsity_mask``).
      n: components that may be nonzero in a block, 1 <= n <= m.
      m: length of a block.
      mask: which leaves, see ``rvsmjax.transforms.select``.
      axis: of the blocks, see ``NM``.

    Raises:
      ValueError: n or m out of range; a leaf whose axis is no multiple of m.

    Example:
      >>> nm_violations({"kernel": jnp.ones((4, 3)).at[0, 1].set(0)}, n=3)
      {'kernel': 2}
    """
    pattern = NM(n, m, axis)
    taken = jax.tree.leaves(select(params, mask))
    found = {}
    for take, (path, leaf) in zip(taken, jax.tree_util.tree_leaves_with_path(params), strict=True):
        if take:
            name = path_name(path)
            try:
                found[name] = int(np.sum(pattern.overfull(leaf)))
            except ValueError as error:
                raise ValueError(f"{error} at {name!r}") from None
    return found
