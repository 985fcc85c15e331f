"""The sparse iterate u, and how sparse a tree is."""

from __future__ import annotations

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rvsmjax import _checks
from rvsmjax._pytree import PyTree, Structure
from rvsmjax.penalties import Penalty
from rvsmjax.transforms.admm import ADMMState
from rvsmjax.transforms.rules import Mark, is_mark
from rvsmjax.transforms.rvsm import RVSMState
from rvsmjax.transforms.selection import Mask, difference, path_name, select

SPLITTING = (RVSMState, ADMMState)


def splitting_states(opt_state: optax.OptState) -> list[RVSMState | ADMMState]:
    """Returns the states of the splitting transformations in an optimizer state, however nested, in order."""
    nodes = jax.tree.leaves(_unboxed(opt_state), is_leaf=lambda node: isinstance(node, SPLITTING))
    return [node for node in nodes if isinstance(node, SPLITTING)]


def _unboxed(tree: PyTree) -> PyTree:
    """Returns ``tree`` with Flax NNX Variables, which differ in a model and its ``nnx.Optimizer``, as plain arrays."""
    nnx = sys.modules.get("flax.nnx")  # who has Variables has imported it; others need not
    return nnx.as_pure(tree) if nnx else tree


def sparse_params(opt_state: optax.OptState, params: optax.Params) -> PyTree:
    """Returns u: ``params`` with the leaves taken by ``rvsm`` or ``admm`` replaced. ``params`` stay as they are.

    For ``rvsm`` u is the prox of ``params`` at the λ and β of the last update, for ``admm`` that of params + z.

    Args:
      opt_state: state of a chain that holds a splitting transformation, however nested (``chain``, ``masked``,
        ``multi_transform``, ``MultiSteps``, ``inject_hyperparams``, ``nnx.Optimizer``).
      params: the parameters w that belong to it.

    Raises:
      ValueError: no splitting transformation in ``opt_state``, or two that take the same leaf; ``params`` of another
        structure than those it was made for.
    """
    states = splitting_states(opt_state)
    if not states:
        raise ValueError("opt_state must hold the state of a splitting transformation such as rvsm, got none")
    u = _unboxed(params)
    taken: set[str] = set()
    for state in states:
        marks = jax.tree_util.tree_leaves_with_path(state.marks, is_leaf=is_mark)
        own = {path_name(path) for path, mark in marks if isinstance(mark, Mark)}
        if own & taken:
            raise ValueError(
                f"opt_state must hold one splitting transformation a leaf, got two at {min(own & taken)!r}"
            )
        taken |= own
        _require_fit(state.marks, u)
        u = state.sparse(u)
    structure: Structure = jax.tree.structure(params)
    return jax.tree.unflatten(structure, jax.tree.leaves(u))


def _require_fit(marks: PyTree, params: optax.Params) -> None:
    structure: Structure = jax.tree.structure(marks, is_leaf=is_mark)
    try:
        structure.flatten_up_to(params)
    except ValueError:
        where = difference(marks, params, is_leaf=is_mark)
        raise ValueError(
            f"params must have the structure of those that opt_state was made for, arrays alone; it differs at: {where}"
        ) from None


class LeafSparsity(NamedTuple):
    """Zeros of one leaf, or of several together."""

    zeros: Array
    size: int
    fraction: Array


class Sparsity(NamedTuple):
    """Zeros per leaf, by path, and over all of them; prints as a table."""

    leaves: dict[str, LeafSparsity]
    total: LeafSparsity

    def __str__(self) -> str:
        """The table, one line a leaf."""
        rows = [*self.leaves.items(), ("total", self.total)]
        width = max(len(path) for path, _ in rows)
        lines = [f"{'leaf':{width}}  {'zeros':>12} {'size':>12}   share"]
        for path, leaf in rows:
            lines.append(f"{path:{width}}  {int(leaf.zeros):>12,} {leaf.size:>12,} {100 * float(leaf.fraction):>6.2f}%")
        return "\n".join(lines)


def sparsity(params: optax.Params, mask: Mask = None) -> Sparsity:
    """Returns the number of exact zeros, the size and their ratio, per leaf taken and over all of them.

    Args:
      params: tree of arrays; pass u, not w.
      mask: which leaves, see ``select``.

    Example:
      >>> report = sparsity({"kernel": jnp.eye(2), "bias": jnp.zeros(2)})
      >>> float(report.total.fraction), list(report.leaves)
      (0.5, ['kernel'])
    """
    taken = jax.tree.leaves(select(params, mask))
    leaves: dict[str, LeafSparsity] = {}
    for take, (path, leaf) in zip(taken, jax.tree_util.tree_leaves_with_path(params), strict=True):
        if take:
            zeros = jnp.sum(jnp.asarray(leaf) == 0)
            size = np.size(leaf)
            leaves[path_name(path)] = LeafSparsity(zeros, size, zeros / max(size, 1))
    zeros = jnp.sum(jnp.asarray([leaf.zeros for leaf in leaves.values()], jnp.int32))
    size = sum(leaf.size for leaf in leaves.values())
    return Sparsity(leaves, LeafSparsity(zeros, size, zeros / max(size, 1)))


def sparsity_mask(params: optax.Params) -> PyTree:
    """Returns a tree of booleans like ``params``, True where a component is not zero; for ``keep_zeros``.

    Args:
      params: tree of arrays; pass u, not w.

    Example:
      >>> sparsity_mask({"kernel": jnp.array([0.0, 2.0])})["kernel"].tolist()
      [False, True]
    """
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) != 0, params)


def lam_for_sparsity(
    params: optax.Params, penalty: Penalty, beta: float, sparsity: float, mask: Mask = None, *, iterations: int = 60
) -> float:
    """Returns the λ at which u = prox_{(λ/β)P} of ``params``, as they are now, has the share ``sparsity`` of zeros.

    The share rises with λ; this is the smallest λ, to float32 precision, at which it is reached. Any penalty with a
    threshold will do, groups too, where whole groups become zero.

    Args:
      params: tree of arrays.
      penalty: the penalty.
      beta: β > 0.
      sparsity: share of zeros over the leaves taken, in [0, 1).
      mask: which leaves, see ``select``.
      iterations: bisections.

    Raises:
      ValueError: ``beta`` <= 0, ``sparsity`` outside [0, 1), or a share that no λ reaches.
      NotImplementedError: a penalty without a threshold, such as ``TopK``, which takes its sparsity directly.

    Example:
      >>> import rvsmjax as rv
      >>> w = jnp.arange(1.0, 11.0)
      >>> lam = lam_for_sparsity(w, rv.L1(), beta=0.5, sparsity=0.7)
      >>> round(lam, 4)
      3.5
    """
    _checks.positive("beta", beta)
    _checks.fraction("sparsity", sparsity)
    penalty.threshold(1.0)
    taken = jax.tree.leaves(select(params, mask))
    leaves = [leaf for take, leaf in zip(taken, jax.tree.leaves(params), strict=True) if take]
    size = sum(leaf.size for leaf in leaves)
    need = round(sparsity * size)

    def reached(step: float) -> bool:
        return int(_zeros(penalty, leaves, jnp.float32(step))) >= need

    if reached(0.0):
        return 0.0
    low, high = -80.0, 80.0
    if not reached(np.exp(high)):
        raise ValueError(f"sparsity must be one that some lam reaches, got {sparsity}")
    for _ in range(iterations):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(np.exp(middle)) else (middle, high)
    return float(beta) * float(np.exp(high))


@jax.jit  # of arguments, not of captured arrays: those would be constants of the program, which XLA folds for long
def _zeros(penalty: Penalty, leaves: list[Array], step: Array) -> Array:
    return jnp.sum(jnp.asarray([jnp.sum(u == 0) for u in penalty.prox_leaves(leaves, step)]))
