"""The sparse iterate u, and how sparse a tree is."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rvsmjax.transforms.rvsm import RVSMState, _is_rule
from rvsmjax.transforms.selection import Mask, path_name, select


def splitting_state(opt_state: Any) -> RVSMState | None:
    """Returns the state of the ``rvsm`` in an optimizer state, however nested, or ``None``.

    Raises:
      ValueError: there is more than one.
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, RVSMState))
    found = [node for node in nodes if isinstance(node, RVSMState)]
    if len(found) > 1:
        raise ValueError(f"opt_state must hold one splitting transformation, got {len(found)}")
    return found[0] if found else None


def sparse_params(opt_state: optax.OptState, params: optax.Params) -> Any:
    """Returns u: ``params`` with the leaves taken by ``rvsm`` replaced by their prox. ``params`` stay as they are.

    Args:
      opt_state: state of a chain that holds ``rvsm``, however nested.
      params: the parameters w that belong to it.

    Raises:
      ValueError: no splitting transformation in ``opt_state``, or more than one.
    """
    state = splitting_state(opt_state)
    if state is None:
        raise ValueError("opt_state must hold the state of a splitting transformation such as rvsm, got none")
    step = state.lam / state.beta

    def shrink(rule: Any, w: Array) -> Array:
        return w if isinstance(rule, optax.MaskedNode) else rule.prox(w, step)

    return jax.tree.map(shrink, state.penalty, params, is_leaf=_is_rule)


class LeafSparsity(NamedTuple):
    """Zeros of one leaf, or of several together."""

    zeros: Array
    size: int
    fraction: Array


class Sparsity(NamedTuple):
    """Zeros per leaf, by path, and over all of them."""

    leaves: dict[str, LeafSparsity]
    total: LeafSparsity


def sparsity(params: Any, mask: Mask = None) -> Sparsity:
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
