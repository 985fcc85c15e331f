"""The sparse iterate u, and the sparsity of a tree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rvsmjax import _checks
from rvsmjax._exact import count
from rvsmjax._pytree import PyTree, unboxed
from rvsmjax.penalties import Penalty
from rvsmjax.penalties._arranged import arranged, stack_shape
from rvsmjax.transforms.leaves.layouts import Layout, selected_leaves
from rvsmjax.transforms.leaves.marks import Marks
from rvsmjax.transforms.leaves.selection import Mask, path_name, select
from rvsmjax.transforms.sparsify import SparsifyState


class SplittingState(Protocol):
    """State of a transformation that has sparse parameters u beside or in place of the parameters.

    Those with ``rules`` hold the penalties and λ of the last update, those with ``residual`` w − u.
    """

    @property
    def count(self) -> Array:
        """Number of updates, int32."""

    @property
    def marks(self) -> Marks:
        """Which leaves are sparse."""

    def sparse(self, params: optax.Params) -> PyTree:
        """Returns ``params`` with these leaves replaced by those of u."""


def _is_splitting(node: object) -> TypeGuard[SplittingState]:
    return isinstance(getattr(node, "marks", None), Marks) and hasattr(node, "sparse")


def splitting_states(opt_state: optax.OptState) -> list[SplittingState]:
    """Returns the states with sparse parameters in an optimizer state, in order, at any nesting depth.

    Those are the states of ``rvsm``, ``admm`` and ``sparsify``, and of the methods in ``rvsmjax.methods``.
    """
    nodes = jax.tree.leaves(unboxed(opt_state), is_leaf=_is_splitting)
    return [node for node in nodes if _is_splitting(node)]


def sparse_params(opt_state: optax.OptState, params: optax.Params) -> PyTree:
    """Returns u: a copy of ``params`` with the leaves selected by ``rvsm`` or ``admm`` replaced by their prox.

    For ``rvsm``, u is the prox of ``params`` at the λ and β of the last update; for ``admm``, the prox of params + z.
    The other transformations keep ``params`` sparse themselves, which are returned.

    Args:
      opt_state: optimizer state that holds a splitting transformation at any nesting depth (``chain``, ``masked``,
        ``multi_transform``, ``MultiSteps``, ``inject_hyperparams``, ``nnx.Optimizer``).
      params: the corresponding parameters w.

    Raises:
      ValueError: if ``opt_state`` holds no splitting transformation, or two that select the same leaf, if it is
        replicated or batched, if ``params`` has a different structure from the parameters passed to ``init``, or if it
        is not what ``sparsify`` made sparse.
    """
    states = splitting_states(opt_state)
    if not states:
        raise ValueError("opt_state must hold the state of a splitting transformation such as rvsm, got none")
    u = params
    claimed: set[str] = set()
    for state in states:
        _require_fit(state, params)
        paths = set(state.marks.paths)
        if paths & claimed:
            raise ValueError(
                f"opt_state must hold one splitting transformation per leaf, got two at {min(paths & claimed)!r}"
            )
        claimed |= paths
        u = state.sparse(u)
    for state in states:
        if isinstance(state, SparsifyState):
            _require_zeros(state, params)
    return u


def _require_zeros(state: SparsifyState, params: optax.Params) -> None:
    """Raises ``ValueError`` if parameters, unless traced, have less than half of the zeros of the last update."""
    if isinstance(state.count, jax.core.Tracer) or state.count == 0:  # before the first update they are dense
        return
    for index, rule in enumerate(state.rules):
        chosen = state.marks.leaves_of(index, params)
        leaves = [leaf for leaf, _ in chosen]
        if not leaves or rule.sparsity is None or any(isinstance(x, jax.core.Tracer) for x in (rule.sparsity, *leaves)):
            continue
        asked = float(rule.sparsity)
        got = count_zeros({str(i): leaf == 0 for i, leaf in enumerate(leaves)}).total
        # The number of zeros is rounded, in each slice of each leaf at most, to whole components or groups.
        penalty = rule.on([axes for _, axes in chosen], [None] * len(chosen)).penalty
        parts = jax.eval_shape(penalty.magnitudes, leaves)
        unit = max(leaf.size / max(part.size, 1) for leaf, part in zip(leaves, parts, strict=True))
        slack = unit * sum(math.prod(stack_shape(axes, leaf.shape)) for leaf, axes in chosen)
        if float(got.zeros) < (asked * got.size - slack) / 2:
            raise ValueError(
                f"params must be those that sparsify left {asked:.4g} sparse, got {float(got.fraction):.4g}: a wrapper "
                "that changes updates, such as schedule_free, goes inside sparsify, not around it"
            )


def _require_fit(state: SplittingState, params: optax.Params) -> None:
    if jnp.ndim(state.count):
        raise ValueError(
            f"opt_state must be that of one training, got counts of shape {jnp.shape(state.count)}: unreplicate it, or "
            "vmap over it and params"
        )
    flat = jax.tree_util.treedef_is_leaf(state.marks.structure) and state.marks.rules != (None,)
    if flat and not jax.tree_util.treedef_is_leaf(jax.tree.structure(unboxed(params))):
        raise ValueError(
            f"params must be one array as passed to init, got a {type(params).__name__}: within optax.flatten, "
            "put only the optimizer, and the splitting before it"
        )


class LeafSparsity(NamedTuple):
    """Number of zeros, size and fraction of zeros of one leaf or of several.

    The number is an int32, or a float32 if there are 2³¹ components or more.
    """

    zeros: Array
    size: int
    fraction: Array


class Sparsity(NamedTuple):
    """Zeros per leaf, by path, and in total; prints as a table."""

    leaves: dict[str, LeafSparsity]
    total: LeafSparsity

    def __str__(self) -> str:
        """Returns a table with one line per leaf."""
        rows = [*self.leaves.items(), ("total", self.total)]
        width = max(len(path) for path, _ in rows)
        lines = [f"{'leaf':{width}}  {'zeros':>12} {'size':>12}   share"]
        for path, leaf in rows:
            lines.append(f"{path:{width}}  {int(leaf.zeros):>12,} {leaf.size:>12,} {100 * float(leaf.fraction):>6.2f}%")
        return "\n".join(lines)


def sparsity(params: optax.Params, mask: Mask = None) -> Sparsity:
    """Returns the number of exact zeros, the size and their ratio, for each selected leaf and in total.

    Args:
      params: tree of arrays; pass u, not w.
      mask: which leaves, see ``select``.

    Example:
      >>> report = sparsity({"kernel": jnp.eye(2), "bias": jnp.zeros(2)})
      >>> float(report.total.fraction), list(report.leaves)
      (0.5, ['kernel'])
    """
    selected = jax.tree.leaves(select(params, mask))
    pairs = zip(selected, jax.tree_util.tree_leaves_with_path(params), strict=True)
    zeros = {path_name(path): jnp.asarray(leaf) == 0 for is_selected, (path, leaf) in pairs if is_selected}
    return count_zeros(zeros)


def count_zeros(zeros: Mapping[str, Array]) -> Sparsity:
    """Returns the sparsity of leaves, given where each is zero."""

    def measure(leaves: Sequence[Array]) -> LeafSparsity:
        size = sum(leaf.size for leaf in leaves)
        number = count(leaves)
        return LeafSparsity(number, size, number / max(float(size), 1.0))

    return Sparsity({path: measure([leaf]) for path, leaf in zeros.items()}, measure(list(zeros.values())))


def sparsity_mask(params: optax.Params) -> PyTree:
    """Returns a tree of boolean masks like ``params``, True at nonzero components; for ``keep_zeros``.

    Args:
      params: tree of arrays; pass u, not w.

    Example:
      >>> sparsity_mask({"kernel": jnp.array([0.0, 2.0])})["kernel"].tolist()
      [False, True]
    """
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) != 0, params)


def lam_for_sparsity(
    params: optax.Params,
    penalty: Penalty,
    beta: float,
    sparsity: float,
    mask: Mask = None,
    *,
    iterations: int = 60,
    layout: Layout | None = None,
) -> float:
    """Returns the λ at which u = prox_{(λ/β)P}(params) has the given fraction of zeros, for the current ``params``.

    The fraction of zeros increases with λ; this is the smallest λ, to float32 precision, that reaches it. Works for any
    penalty with a threshold, including groups, where whole groups become zero.

    Args:
      params: tree of arrays.
      penalty: the penalty.
      beta: β > 0.
      sparsity: fraction of zeros over the selected leaves, in [0, 1).
      mask: which leaves, see ``select``.
      iterations: number of bisection steps.
      layout: what each axis of a leaf means, see ``rvsm``.

    Raises:
      ValueError: if ``beta`` <= 0, ``sparsity`` is outside [0, 1), no λ reaches it, or a mask or layout does not fit.
      NotImplementedError: if the penalty has no threshold, like ``TopK``, which takes the sparsity directly.

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
    chosen = selected_leaves(params, mask, layout, penalty)
    leaves, penalty = [leaf for _, leaf, _ in chosen], arranged(penalty, [axes for _, _, axes in chosen])
    size = sum(leaf.size for leaf in leaves)
    if not size:
        raise ValueError("mask must select at least one leaf of params, got none by default")
    need = round(sparsity * size)

    def reached(step: float) -> bool:
        return int(_zeros(penalty, leaves, jnp.float32(step))) >= need

    if reached(0.0):
        return 0.0
    low, high = -80.0, 80.0
    if not reached(np.exp(high)):
        raise ValueError(f"sparsity must be reachable by some lam, got {sparsity}")
    for _ in range(iterations):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(np.exp(middle)) else (middle, high)
    return float(beta) * float(np.exp(high))


@jax.jit  # takes the leaves as arguments: as captured constants, XLA would spend long folding them
def _zeros(penalty: Penalty, leaves: list[Array], step: Array) -> Array:
    return count([u == 0 for u in penalty.prox_leaves(leaves, step)])
