"""Rules that assign a penalty and λ to each leaf; shared by the splitting transformations."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._pytree import KeyPath, PyTree, Structure
from rvsmjax.penalties import Penalty
from rvsmjax.transforms.selection import Mask, path_name, select

Overrides = Mapping[str, Mapping[str, Penalty | optax.ScalarOrSchedule] | None]
"""Regular expression on the path -> ``{"penalty": …, "lam": …}`` (either or both), or None to skip the leaf."""


class Rule(NamedTuple):
    """A penalty and its λ, for the leaves whose ``Mark`` holds its index."""

    penalty: Penalty
    lam: optax.ScalarOrSchedule

    def at(self, count: Array) -> Rule:
        """Returns the rule with schedules evaluated at step ``count`` and all numbers as strongly typed arrays."""

        def resolve(leaf: optax.ScalarOrSchedule) -> Array:
            return strong(leaf(count) if callable(leaf) else leaf)

        return jax.tree.map(resolve, self, is_leaf=callable)


def numbers_at(
    count: Array, rules: Sequence[Rule], strength: optax.ScalarOrSchedule, like: PyTree = None
) -> tuple[tuple[Rule, ...], Array]:
    """Returns the rules and the strength (β or ρ) of this update, with schedules evaluated at ``count``.

    Args:
      count: number of updates so far.
      rules: the rules, possibly with schedules.
      strength: β or ρ, a number or a schedule.
      like: rules and strength of the previous update; their dtypes are kept.
    """
    now = tuple(rule.at(count) for rule in rules), strong(strength(count) if callable(strength) else strength)
    return now if like is None else jax.tree.map(lambda a, b: a.astype(b.dtype), now, like)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Mark:
    """Marks a selected leaf in a state with the index of its rule."""

    rule: int


def make_rules(penalty: Penalty, lam: optax.ScalarOrSchedule, overrides: Overrides | None) -> list[Rule]:
    """Returns the default rule followed by one rule per override, after checking their arguments.

    Raises:
      TypeError: if a penalty is not a Penalty, or an override is not a mapping of ``penalty`` and ``lam`` or None.
      ValueError: if λ < 0 or a pattern is not a regular expression.
    """
    rules = [Rule(penalty, lam)]
    for pattern, change in (overrides or {}).items():
        try:
            re.compile(pattern)
        except (re.error, TypeError):
            raise ValueError(f"overrides must have regular expressions as keys, got {pattern!r}") from None
        if change is not None and not (isinstance(change, Mapping) and set(change) <= {"penalty", "lam"} and change):
            raise TypeError(f"overrides must hold a penalty, a lam or both, or None, got {change!r} for {pattern!r}")
        rules.append(rules[0]._replace(**(change or {})))
    for rule in rules:
        if not isinstance(rule.penalty, Penalty):
            raise TypeError(f"penalty must be an instance of Penalty, got {_checks.show(rule.penalty)}")
        _checks.nonnegative("lam", rule.lam, schedule=True)
    return rules


def mark_leaves(params: PyTree, mask: Mask, overrides: Overrides | None) -> PyTree:
    """Returns a tree like ``params`` with a ``Mark`` at each selected leaf and ``MaskedNode`` elsewhere.

    Raises:
      TypeError: if an integer leaf is selected.
      ValueError: if an override never applies, or the mask does not fit.
    """
    patterns = list((overrides or {}).items())
    used = set()

    def mark(path: KeyPath, selected: bool, leaf: Array) -> Mark | optax.MaskedNode:
        name = path_name(path)
        rule = next((i for i, (pattern, _) in enumerate(patterns) if re.search(pattern, name)), None)
        if rule is not None:
            used.add(rule)
        if not selected or (rule is not None and patterns[rule][1] is None):
            return optax.MaskedNode()
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"params must be floating-point where selected, got {jnp.result_type(leaf)} at {name}")
        return Mark(0 if rule is None else rule + 1)

    marks = jax.tree_util.tree_map_with_path(mark, select(params, mask), params)
    unused = [pattern for i, (pattern, _) in enumerate(patterns) if i not in used]
    if unused:
        reason = "it matches no path, or an earlier pattern claims every match"
        raise ValueError(f"overrides pattern {unused[0]!r} never applies: {reason}")
    return marks


def is_mark(node: PyTree) -> bool:
    """Returns whether a node is a leaf of a tree of marks."""
    return isinstance(node, (Mark, optax.MaskedNode))


def map_marked(function: Callable[..., PyTree], marks: PyTree, first: PyTree, *rest: PyTree) -> PyTree:
    """Returns ``function(first, *rest)`` at each marked leaf, and ``first`` elsewhere."""
    return jax.tree.map(
        lambda m, *xs: function(*xs) if isinstance(m, Mark) else xs[0], marks, first, *rest, is_leaf=is_mark
    )


def map_rules(
    function: Callable[[Rule, list[Array]], Sequence[Array]], rules: Sequence[Rule], marks: PyTree, tree: PyTree
) -> PyTree:
    """Returns ``tree`` with the leaves of each rule replaced by ``function(rule, leaves)``; other leaves unchanged."""
    structure: Structure
    nodes, structure = jax.tree.flatten(marks, is_leaf=is_mark)
    leaves = structure.flatten_up_to(tree)
    for i, rule in enumerate(rules):
        indices = [index for index, node in enumerate(nodes) if isinstance(node, Mark) and node.rule == i]
        if indices:
            for index, leaf in zip(indices, function(rule, [leaves[index] for index in indices]), strict=True):
                leaves[index] = leaf
    return jax.tree.unflatten(structure, leaves)


def masked(marks: PyTree, tree: PyTree) -> PyTree:
    """Returns ``tree`` with unmarked leaves replaced by ``MaskedNode``."""
    return jax.tree.map(lambda m, x: x if isinstance(m, Mark) else m, marks, tree, is_leaf=is_mark)


def strong(number: ArrayLike) -> Array:
    """Returns ``number`` as a strongly typed array, so a saved and restored state does not recompile."""
    array = jnp.asarray(number)
    return jax.lax.convert_element_type(array, array.dtype)
