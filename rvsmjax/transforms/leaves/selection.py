"""Selection of the leaves of a parameter tree that a transformation acts on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import DictKey, GetAttrKey
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._pytree import KeyPath, PyTree, Structure

Mask = None | bool | Callable[[str], bool] | str | re.Pattern[str] | PyTree
"""None (default), True (every leaf), a predicate on the path, a regular expression, or a tree of booleans."""
NORMS = re.compile(r"norm(_?[a-z]?\d*)?$|^ln(_?\w?\d*)?$|_ln$|^[bg]n\d*$|^rms\d*$")
"""Layers that normalize, whose parameters the default skips: ``LayerNorm_0``, ``attention_norm``, ``ln_1``, ``bn``."""
TABLES = re.compile(r"embed|(^|_)embs?$|^wte$|^wpe$")
"""Layers that are tables, whose ``weight`` or ``w`` the default skips; their ``kernel`` is a projection."""
VECTORS = re.compile(
    r"bias|^b(_\w+|\d+|[qkvo])?$|(^|_)(scale|offset|gain|gamma|beta|g)$"  # biases, scales
    r"|embed|(^|_)embs?$|^wte$|^wpe$|(^|_)pos(_|$|emb|ition)|(^|_)pe$|codebook|vocab"  # tables
    r"|^cls$|tokens?$|^probe$|^latents?$|^(h0|c0|init(ial)?_state)$"  # learned inputs and initial states
    r"|(^|_)lora|^(log_\w+|\w+_log)$|^(running|moving)_"  # LoRA factors, rates of state-space models, running means
)
"""Parameters that the default skips at any rank: stacked and scanned layers add an axis."""


def path_name(path: KeyPath) -> str:
    """Returns a leaf's path as text, such as ``conv1/kernel``, without the ``value`` of Flax's boxes."""
    if len(path) > 1 and isinstance(path[-2], DictKey) and path[-1] == GetAttrKey("value"):
        path = path[:-1]
    parts = []
    for key in path:
        name = next((getattr(key, field) for field in ("key", "name", "idx") if hasattr(key, field)), key)
        parts.append(str(name))
    return "/".join(parts)


def select(params: PyTree, mask: Mask = None) -> PyTree:
    """Returns a tree of booleans with the structure of ``params``, True at the selected leaves.

    ``None`` selects real arrays of rank >= 2 by name: kernels, but not biases, norms, embeddings, class and position
    tokens or LoRA factors (``NORMS``, ``TABLES``, ``VECTORS``), or a bare array.

    Args:
      params: tree of arrays.
      mask: see ``Mask``. Regular expressions are searched for in paths such as ``conv1/kernel``.

    Raises:
      ValueError: if a tree of booleans does not match ``params``, or the mask selects no leaf.
      TypeError: if the mask has another type.

    Example:
      >>> import jax.numpy as jnp
      >>> select({"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)})
      {'bias': False, 'kernel': True}
    """
    if mask is None:
        bare = jax.tree_util.treedef_is_leaf(jax.tree.structure(params))

        def chosen(path: KeyPath, leaf: ArrayLike) -> bool:
            real = is_array(leaf) and not jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating)
            return real and (bare or _by_default(path_name(path), leaf))

        return jax.tree_util.tree_map_with_path(chosen, params)
    selected = _explicit(params, mask)
    if jax.tree.leaves(params) and not any(jax.tree.leaves(selected)):
        raise ValueError(f"mask must select at least one leaf of params, got {_checks.show(mask)}")
    return selected


def is_array(leaf: PyTree) -> bool:
    """Returns whether a leaf is an array or a number; an Equinox model also holds functions."""
    return hasattr(leaf, "dtype") or isinstance(leaf, (bool, int, float, complex))


def _by_default(name: str, leaf: ArrayLike) -> bool:
    *layers, last = name.lower().split("/")
    if np.ndim(leaf) < 2:
        return False
    layer = layers[-1] if layers else ""
    if last == "b" and not layers:  # a matrix B, not Haiku's bias
        return True
    if NORMS.search(layer) or NORMS.search(last) or VECTORS.search(last):
        return False
    return not (last in ("weight", "w") and TABLES.search(layer))


def _explicit(params: PyTree, mask: Mask) -> PyTree:
    def by_name(rule: Callable[[str], object]) -> PyTree:
        return jax.tree_util.tree_map_with_path(lambda path, _: bool(rule(path_name(path))), params)

    if isinstance(mask, (bool, np.bool_)):
        return jax.tree.map(lambda _: bool(mask), params)
    if isinstance(mask, (str, re.Pattern)):
        try:
            return by_name(re.compile(mask).search)
        except re.error as error:
            raise ValueError(f"mask must be a regular expression, got {mask!r}: {error}") from None
    if callable(mask):
        return by_name(mask)
    if not all(isinstance(leaf, (bool, np.bool_)) for leaf in jax.tree.leaves(mask)):
        raise TypeError(
            "mask must be None, True, a predicate, a regular expression or a tree of booleans, "
            f"got {_checks.show(mask)}"
        )
    require_same_structure("mask", mask, params)
    return jax.tree.map(bool, mask)


def check_patterns(argument: str, patterns: Iterable[str]) -> None:
    """Raises ``ValueError`` unless all keys of an argument are regular expressions."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, TypeError):
            raise ValueError(f"{argument} must have regular expressions as keys, got {pattern!r}") from None


def first_matches(argument: str, patterns: Sequence[str], names: Sequence[str | None]) -> list[int | None]:
    """Returns, for each path, the index of the first pattern found in it; None without one, or without a path.

    Raises:
      ValueError: if a pattern is the first for no path.
    """

    def first(name: str | None) -> int | None:
        return None if name is None else next((i for i, p in enumerate(patterns) if re.search(p, name)), None)

    found = [first(name) for name in names]
    unused = [pattern for i, pattern in enumerate(patterns) if i not in found]
    if unused:
        reason = "it matches no path, or an earlier pattern claims every match"
        raise ValueError(f"{argument} pattern {unused[0]!r} never applies: {reason}")
    return found


def require_same_structure(name: str, tree: PyTree, params: PyTree) -> None:
    """Raises ``ValueError`` with the differing paths unless a tree of booleans has the structure of ``params``."""
    structure: Structure = jax.tree.structure(params)
    if structure != jax.tree.structure(tree):
        where = difference(tree, params)
        raise ValueError(f"{name} must be a tree of booleans with the structure of params, it differs at: {where}")


def difference(tree: PyTree, params: PyTree, is_leaf: Callable[[PyTree], bool] | None = None) -> str:
    """Returns the paths that only one of two trees has, or the first place where their containers differ."""
    stands_in = is_leaf or (lambda node: isinstance(node, optax.MaskedNode))
    theirs = {path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree, is_leaf=stands_in)}
    ours = {path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params, is_leaf=stands_in)}
    return ", ".join(sorted(ours ^ theirs)) or _other_container(tree, params, ())


def _other_container(tree: PyTree, params: PyTree, path: KeyPath) -> str:
    names = [type(node).__name__ for node in (tree, params)]
    if type(tree) is not type(params):
        return f"{path_name(path) or 'the root'}, {names[0]} instead of {names[1]}"

    def children(node: PyTree) -> list[tuple[KeyPath, PyTree]]:
        pairs: list[tuple[KeyPath, PyTree]] = jax.tree_util.tree_leaves_with_path(
            node, is_leaf=lambda inner: inner is not node
        )
        return pairs

    for (step, a), (_, b) in zip(children(tree), children(params), strict=False):
        ours: Structure = jax.tree.structure(a)
        if step and ours != jax.tree.structure(b):
            return _other_container(a, b, (*path, *step))
    return f"{path_name(path) or 'the root'}, in what the {names[0]} holds beside its leaves"
