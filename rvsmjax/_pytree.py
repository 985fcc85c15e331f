"""Frozen dataclasses as pytrees, unflattened without calling their constructors."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from typing import Any

import jax
from flax import serialization
from flax.core import meta

PyTree = Any
"""A tree of arrays: mypy can say no more of it."""
Structure = Any
"""``jax.tree_util.PyTreeDef``, which mypy does not find in the stubs of jaxlib."""
KeyPath = tuple[object, ...]
"""Of a leaf, as ``jax.tree_util`` gives it."""


class Module:
    """Base of frozen dataclasses whose fields are pytree leaves.

    A field with ``metadata={"static": True}`` is part of the tree structure. Unflattening skips the constructor and
    its checks, because the leaves may be tracers, axes or placeholders.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        # @dataclass has not run yet, so the fields are looked up on use.
        jax.tree_util.register_pytree_with_keys(
            cls, _flatten_with_keys, lambda aux, leaves: _unflatten(cls, aux, leaves)
        )
        serialization.register_serialization_state(cls, _to_state_dict, _from_state_dict)


def _names(cls: type, static: bool) -> list[str]:
    return [f.name for f in dataclasses.fields(cls) if bool(f.metadata.get("static", False)) == static]


def _flatten_with_keys(module: Module) -> tuple[list[tuple[jax.tree_util.GetAttrKey, PyTree]], tuple[object, ...]]:
    children = [(jax.tree_util.GetAttrKey(name), getattr(module, name)) for name in _names(type(module), static=False)]
    return children, tuple(getattr(module, name) for name in _names(type(module), static=True))


def _unflatten(cls: type[Module], aux: tuple[object, ...], leaves: Iterable[PyTree]) -> Module:
    module = object.__new__(cls)
    values = zip(_names(cls, static=False) + _names(cls, static=True), [*leaves, *aux], strict=True)
    for name, value in values:
        object.__setattr__(module, name, value)
    return module


def _to_state_dict(module: Module) -> dict[str, PyTree]:
    # Without fields that are None: some checkpointers cannot store them.
    children, _ = _flatten_with_keys(module)
    return {key.name: serialization.to_state_dict(child) for key, child in children if child is not None}


def _from_state_dict(module: Module, state: dict[str, PyTree]) -> Module:
    children, aux = _flatten_with_keys(module)
    leaves = [
        None if child is None else serialization.from_state_dict(child, state[key.name]) for key, child in children
    ]
    return _unflatten(type(module), aux, leaves)


def unboxed(tree: PyTree) -> PyTree:
    """Returns ``tree`` with the values of Flax's boxes: NNX Variables, Linen's ``nn.Partitioned``.

    A model and its ``nnx.Optimizer`` hold different Variables; programs remove Linen's boxes before or after ``init``.
    """
    nnx = sys.modules.get("flax.nnx")  # whoever has Variables has imported it
    tree = nnx.as_pure(tree) if nnx else tree

    def is_box(node: PyTree) -> bool:
        return isinstance(node, meta.AxisMetadata)

    def content(node: PyTree) -> PyTree:
        return jax.tree.leaves(node, is_leaf=lambda inner: not is_box(inner))[0] if is_box(node) else node

    boxed = any(map(is_box, jax.tree.leaves(tree, is_leaf=is_box)))
    return jax.tree.map(content, tree, is_leaf=is_box) if boxed else tree
