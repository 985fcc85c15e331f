"""Which penalty, with which numbers, acts on which leaves: what every splitting transformation shares."""

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
"""Regular expression on the path -> ``{"penalty": …, "lam": …}`` (either or both), or None to leave the leaf alone."""


class Rule(NamedTuple):
    """A penalty and its λ, for the leaves that are marked with its number; schedules are resolved to numbers."""

    penalty: Penalty
    lam: optax.ScalarOrSchedule

    def at(self, count: Array) -> Rule:
        """Returns the rule with its schedules taken at step ``count``, all numbers arrays of a fixed dtype."""

        def resolve(leaf: optax.ScalarOrSchedule) -> Array:
            return strong(leaf(count) if callable(leaf) else leaf)

        return jax.tree.map(resolve, self, is_leaf=callable)


def numbers_at(
    count: Array, rules: Sequence[Rule], strength: optax.ScalarOrSchedule, like: PyTree = None
) -> tuple[tuple[Rule, ...], Array]:
    """Returns the rules and the strength (β or ρ) of this call: schedules at ``count``, injected numbers as they came.

    Args:
      count: number of updates so far.
      rules: the rules as given.
      strength: β or ρ as given.
      like: numbers of the last call, whose dtypes are kept.
    """
    now = tuple(rule.at(count) for rule in rules), strong(strength(count) if callable(strength) else strength)
    return now if like is None else jax.tree.map(lambda a, b: a.astype(b.dtype), now, like)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Mark:
    """Stands in a state at the place of a leaf that is taken, and says by which rule."""

    rule: int


def make_rules(penalty: Penalty, lam: optax.ScalarOrSchedule, overrides: Overrides | None) -> list[Rule]:
    """Returns the rules: the default one, then that of each override; checks every number.

    Raises:
      TypeError: something that is no penalty, or an override of another form.
      ValueError: λ < 0; a pattern that is no regular expression.
    """
    rules = [Rule(penalty, lam)]
    for pattern, change in (overrides or {}).items():
        try:
            re.compile(pattern)
        except (re.error, TypeError):
            raise ValueError(f"overrides must map regular expressions, got {pattern!r}") from None
        if change is not None and not (isinstance(change, Mapping) and set(change) <= {"penalty", "lam"} and change):
            raise TypeError(f"overrides must hold a penalty, a lam or both, or None, got {change!r} for {pattern!r}")
        rules.append(rules[0]._replace(**(change or {})))
    for rule in rules:
        if not isinstance(rule.penalty, Penalty):
            raise TypeError(f"penalty must be an instance of Penalty, got {_checks.show(rule.penalty)}")
        _checks.nonnegative("lam", rule.lam, schedule=True)
    return rules


def mark_leaves(params: PyTree, mask: Mask, overrides: Overrides | None) -> PyTree:
    """Returns a tree like ``params`` with a ``Mark`` at each leaf taken and ``MaskedNode`` elsewhere.

    Raises:
      TypeError: an integer leaf is taken.
      ValueError: an override whose pattern is found in no path, or a mask that does not fit.
    """
    patterns = list((overrides or {}).items())
    used = set()

    def mark(path: KeyPath, take: bool, leaf: Array) -> Mark | optax.MaskedNode:
        name = path_name(path)
        rule = next((i for i, (pattern, _) in enumerate(patterns) if re.search(pattern, name)), None)
        if rule is not None:
            used.add(rule)
        if not take or (rule is not None and patterns[rule][1] is None):
            return optax.MaskedNode()
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"params must be floating where the mask takes them, got {jnp.result_type(leaf)} at {name}")
        return Mark(0 if rule is None else rule + 1)

    marks = jax.tree_util.tree_map_with_path(mark, select(params, mask), params)
    unused = [pattern for i, (pattern, _) in enumerate(patterns) if i not in used]
    if unused:
        raise ValueError(f"overrides must each be found first in some path, got {unused[0]!r}, which is not")
    return marks


def is_mark(node: PyTree) -> bool:
    """Whether a node of a tree of marks is one."""
    return isinstance(node, (Mark, optax.MaskedNode))


def map_marked(function: Callable[..., PyTree], marks: PyTree, first: PyTree, *rest: PyTree) -> PyTree:
    """Returns ``function(first, *rest)`` at each leaf that is marked, and ``first`` elsewhere."""
    return jax.tree.map(
        lambda m, *xs: function(*xs) if isinstance(m, Mark) else xs[0], marks, first, *rest, is_leaf=is_mark
    )


def map_rules(
    function: Callable[[Rule, list[Array]], Sequence[Array]], rules: Sequence[Rule], marks: PyTree, tree: PyTree
) -> PyTree:
    """Returns ``tree`` with the leaves of each rule replaced by ``function(rule, leaves)``; other leaves stay."""
    structure: Structure
    kinds, structure = jax.tree.flatten(marks, is_leaf=is_mark)
    leaves = structure.flatten_up_to(tree)
    for i, rule in enumerate(rules):
        places = [place for place, kind in enumerate(kinds) if isinstance(kind, Mark) and kind.rule == i]
        if places:
            for place, leaf in zip(places, function(rule, [leaves[place] for place in places]), strict=True):
                leaves[place] = leaf
    return jax.tree.unflatten(structure, leaves)


def masked(marks: PyTree, tree: PyTree) -> PyTree:
    """Returns ``tree`` with ``MaskedNode`` in place of the leaves that are not marked."""
    return jax.tree.map(lambda m, x: x if isinstance(m, Mark) else m, marks, tree, is_leaf=is_mark)


def strong(number: ArrayLike) -> Array:
    """Returns an array of a fixed dtype, so that a state that was saved and loaded does not recompile."""
    array = jnp.asarray(number)
    return jax.lax.convert_element_type(array, array.dtype)
