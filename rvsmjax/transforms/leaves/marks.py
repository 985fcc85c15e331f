"""The rule and the axes of each leaf, as part of the structure of a state; functions of the marked leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import optax
from flax import serialization
from jax import Array

from rvsmjax._pytree import PyTree, Structure, unboxed
from rvsmjax.penalties._arranged import Axes, map_slices
from rvsmjax.transforms.leaves.layouts import is_masked
from rvsmjax.transforms.leaves.selection import difference, path_name


@jax.tree_util.register_static
class Marks(tuple[()]):
    """The rule and the axes of each leaf of the parameters, as part of a state's structure: it holds no arrays.

    To programs that walk over a state by hand it is an empty tuple. Marks of a placeholder for the parameters equal any
    others and become those: ``optax.tree.map_params`` maps the state of its placeholder together with a real one, and
    returns the structure of the former.

    Args:
      structure: structure of the parameters, without Flax's boxes.
      rules: index of the rule of each leaf, None where no rule applies.
      axes: axes of each leaf, None where no layout is declared.
    """

    structure: Structure
    rules: tuple[int | None, ...]
    axes: tuple[Axes | None, ...]

    def __new__(cls, structure: Structure, rules: Sequence[int | None], axes: Sequence[Axes | None]) -> Marks:
        """Returns the marks."""
        marks = super().__new__(cls)
        marks.structure, marks.rules, marks.axes = structure, tuple(rules), tuple(axes)
        return marks

    def __reduce__(self) -> tuple[Callable[..., Marks], tuple[PyTree, ...]]:
        """A copy derives its structure from a tree: in a copied structure, sentinels of Equinox would be others."""
        return _marks_of, (self.template(), self.rules, self.axes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Marks):
            return NotImplemented
        for one, another in ((self, other), (other, self)):
            if _is_placeholder(one.structure):
                one.structure, one.rules, one.axes = another.structure, another.rules, another.axes
        return (self.rules, self.axes, self.structure) == (other.rules, other.axes, other.structure)

    def __ne__(self, other: object) -> bool:  # else a tuple's, and JAX asks for either
        return not self == other

    def __hash__(self) -> int:
        return hash((self.structure, self.rules, self.axes))

    @property
    def paths(self) -> list[str]:
        """The paths of the marked leaves."""
        return [path for path in self.paths_or_none if path is not None]

    @property
    def paths_or_none(self) -> list[str | None]:
        """The path of each leaf, None where it is not marked."""
        paths = jax.tree_util.tree_leaves_with_path(self.template())
        return [None if rule is None else path_name(path) for (path, _), rule in zip(paths, self.rules, strict=True)]

    def template(self) -> PyTree:
        """Returns a tree with the structure of the parameters, leaves numbered."""
        return jax.tree.unflatten(self.structure, range(len(self.rules)))

    def leaves(self, tree: PyTree) -> list[PyTree]:
        """Returns the leaves of a tree like the parameters; subtrees where the parameters had None are dropped.

        Raises:
          ValueError: if the structure differs.
        """
        tree = unboxed(tree)
        try:
            return list(self.structure.flatten_up_to(tree))
        except ValueError:
            pass
        picked: list[PyTree] = []

        def pick(number: int | None, node: PyTree) -> None:
            if number is not None:
                picked.append(node)

        try:
            jax.tree.map(pick, self.template(), tree, is_leaf=lambda node: node is None)
        except ValueError:
            where = difference(self.template(), tree)
            raise ValueError(
                "params must have the structure of the parameters passed to init, and so must updates; it "
                f"differs at: {where}"
            ) from None
        return picked

    def leaves_of(self, rule: int, tree: PyTree) -> list[tuple[PyTree, Axes | None]]:
        """Returns the leaves of one rule with their axes."""
        columns = zip(self.leaves(tree), self.axes, self.rules, strict=True)
        return [(leaf, axes) for leaf, axes, of in columns if of == rule]

    def marked(self, tree: PyTree) -> list[PyTree]:
        """Returns the marked leaves of a tree like the parameters."""
        return [leaf for leaf, rule in zip(self.leaves(tree), self.rules, strict=True) if rule is not None]

    def replace(self, tree: PyTree, leaves: Sequence[PyTree]) -> PyTree:
        """Returns ``tree`` with other ``leaves``."""
        plain = unboxed(tree)
        structure: Structure = jax.tree.structure(tree, is_leaf=is_masked)
        if jax.tree.structure(plain, is_leaf=is_masked) != self.structure:

            def new(number: int | None, node: PyTree) -> PyTree:
                return node if number is None else leaves[number]

            whole = jax.tree.map(new, self.template(), plain, is_leaf=lambda node: node is None)
            leaves = jax.tree.leaves(whole, is_leaf=is_masked)
        return jax.tree.unflatten(structure, leaves)


def _is_placeholder(structure: Structure) -> bool:
    """Returns whether a structure without leaves is another than an empty container."""
    node = structure.node_data()
    return structure.num_leaves == 0 and node is not None and node[0] not in (dict, list, tuple)


def _marks_of(template: PyTree, rules: Sequence[int | None], axes: Sequence[Axes | None]) -> Marks:
    return Marks(jax.tree.structure(template), rules, axes)


def _marks_to_state_dict(marks: Marks) -> dict[str, PyTree]:
    return {}  # all of it is structure


serialization.register_serialization_state(Marks, _marks_to_state_dict, lambda marks, state: marks)


def map_marked(function: Callable[..., PyTree], marks: Marks, first: PyTree, *rest: PyTree) -> PyTree:
    """Returns ``function(first, *rest)`` at each marked leaf, and ``first`` elsewhere."""
    columns = zip(*(marks.leaves(tree) for tree in (first, *rest)), strict=True)
    leaves = [xs[0] if rule is None else function(*xs) for rule, xs in zip(marks.rules, columns, strict=True)]
    return marks.replace(first, leaves)


def map_leaf_slices(function: Callable[..., Array], marks: Marks, first: PyTree, *rest: PyTree) -> PyTree:
    """Returns ``function(first, *rest)`` at each slice of each marked leaf, and ``first`` elsewhere."""
    columns = zip(*(marks.leaves(tree) for tree in (first, *rest)), strict=True)
    rows = zip(marks.rules, marks.axes, columns, strict=True)
    leaves = [xs[0] if rule is None else map_slices(function, axes, xs) for rule, axes, xs in rows]
    return marks.replace(first, leaves)


def metric_leaves(marks: Marks, metric: PyTree) -> list[Array | None]:
    """Returns the metric of each leaf from that of a state, None where there is none."""
    if metric is None:
        return [None] * len(marks.rules)
    leaves = zip(marks.rules, marks.leaves(metric), strict=True)
    return [None if rule is None or is_masked(leaf) else leaf for rule, leaf in leaves]


def require_arrays(marks: Marks, updates: PyTree) -> None:
    """Raises ``ValueError`` with the path where a marked leaf has no update: frozen leaves of Equinox have None."""
    rows = zip(marks.paths_or_none, marks.leaves(updates), strict=True)
    missing = [path for path, leaf in rows if path is not None and (leaf is None or is_masked(leaf))]
    if missing:
        rule = "updates must hold an array for each selected leaf: pass a mask, or init with the trained leaves alone"
        raise ValueError(f"{rule}, got none at {missing[0]}")


def masked(marks: Marks, tree: PyTree) -> PyTree:
    """Returns ``tree`` with unmarked leaves replaced by ``MaskedNode``."""
    leaves = zip(marks.rules, marks.leaves(tree), strict=True)
    return marks.replace(tree, [optax.MaskedNode() if rule is None else leaf for rule, leaf in leaves])


def evaluate(function: Callable[[PyTree], PyTree], tree: PyTree) -> PyTree:
    """Returns ``function(tree)``; its shapes only where ``tree`` holds shapes."""
    abstract = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tree))
    return jax.eval_shape(function, tree) if abstract else function(tree)
