"""Frozen dataclasses as pytrees, unflattened without calling their constructors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax

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
