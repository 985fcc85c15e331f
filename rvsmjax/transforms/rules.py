"""Rules that assign a penalty and λ to each leaf; shared by the splitting transformations."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import serialization
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._pytree import KeyPath, PyTree, Structure, unboxed
from rvsmjax.penalties import Penalty
from rvsmjax.transforms.selection import Mask, difference, path_name, select
from rvsmjax.transforms.target import step_for_sparsity

Overrides = Mapping[str, Mapping[str, Penalty | optax.ScalarOrSchedule] | None]
"""Regular expression on the path -> one or more of ``{"penalty": …, "lam": …, "sparsity": …}``, or None to skip."""


class Rule(NamedTuple):
    """A penalty and its λ, for the leaves whose ``Mark`` holds its index.

    If ``sparsity`` is given, λ follows it: ``follow_sparsity``. In a state, λ is a vector if it differs between leaves.
    """

    penalty: Penalty
    lam: optax.ScalarOrSchedule
    sparsity: optax.ScalarOrSchedule | None = None

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
    return now if like is None else jax.tree.map(lambda a, b: jnp.broadcast_to(a.astype(b.dtype), b.shape), now, like)


def by_leaf(rules: Sequence[Rule], marks: Marks) -> tuple[Rule, ...]:
    """Returns the rules of a state with one λ per leaf where λ follows a sparsity."""

    def vector(index: int, rule: Rule) -> Rule:
        return rule if rule.sparsity is None else rule._replace(lam=jnp.zeros(marks.rules.count(index), jnp.float32))

    return tuple(vector(index, rule) for index, rule in enumerate(rules))


def follow_sparsity(rules: Sequence[Rule], marks: Marks, tree: PyTree, strength: ArrayLike = 1.0) -> tuple[Rule, ...]:
    """Returns the rules with the λ at which the prox of ``tree`` at step λ/strength has their sparsity."""
    leaves = marks.leaves(tree)

    def solved(index: int, rule: Rule) -> Rule:
        chosen = [leaf for leaf, of in zip(leaves, marks.rules, strict=True) if of == index]
        if rule.sparsity is None or not chosen:
            return rule
        each = jnp.ndim(rule.lam) > 0
        steps = [step_for_sparsity(rule.penalty, part, rule.sparsity) for part in ([x] for x in chosen) if each]
        step = jnp.stack(steps) if each else step_for_sparsity(rule.penalty, chosen, rule.sparsity)
        return rule._replace(lam=(step * strength).astype(jnp.result_type(rule.lam)))

    return tuple(solved(index, rule) for index, rule in enumerate(rules))


@jax.tree_util.register_static
class Marks:
    """The rule that applies to each leaf of the parameters, as part of a state's structure: it holds no arrays.

    Marks of a tree without leaves equal any others: ``optax.tree.map_params`` compares the state of its placeholder
    for the parameters with a real one.

    Args:
      structure: structure of the parameters, without Flax's boxes.
      rules: index of the rule of each leaf, None where no rule applies.
    """

    def __init__(self, structure: Structure, rules: Sequence[int | None]) -> None:
        self.structure, self.rules = structure, tuple(rules)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Marks):
            return NotImplemented
        same = self.rules == other.rules and self.structure == other.structure
        return same or not self.rules or not other.rules

    def __hash__(self) -> int:
        return hash((self.structure, self.rules))

    @property
    def paths(self) -> list[str]:
        """The paths of the marked leaves."""
        paths = jax.tree_util.tree_leaves_with_path(self.template())
        return [path_name(path) for (path, _), rule in zip(paths, self.rules, strict=True) if rule is not None]

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
                f"params must have the structure of the parameters passed to init; it differs at: {where}"
            ) from None
        return picked

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


def _marks_to_state_dict(marks: Marks) -> dict[str, PyTree]:
    return {}  # all of it is structure


serialization.register_serialization_state(Marks, _marks_to_state_dict, lambda marks, state: marks)


def make_rules(
    penalty: Penalty,
    lam: optax.ScalarOrSchedule | None,
    overrides: Overrides | None,
    sparsity: optax.ScalarOrSchedule | None = None,
) -> list[Rule]:
    """Returns the default rule followed by one rule per override, after checking their arguments.

    Raises:
      TypeError: if a penalty is not a Penalty, if not exactly one of λ and a sparsity is given for a penalty that is no
        constraint, if a sparsity is given for a constraint or a penalty without a threshold, or if an override is not a
        mapping of ``penalty``, ``lam`` and ``sparsity`` or None.
      ValueError: if λ < 0, a sparsity is outside [0, 1), or a pattern is not a regular expression.
    """

    def rule(penalty: Penalty, lam: optax.ScalarOrSchedule | None, sparsity: optax.ScalarOrSchedule | None) -> Rule:
        if not isinstance(penalty, Penalty):
            raise TypeError(f"penalty must be an instance of Penalty, got {_checks.show(penalty)}")
        if sparsity is not None:
            return targeted(penalty, lam, sparsity)
        if lam is None and not penalty.is_constraint:
            raise TypeError(
                f"lam must be given (or sparsity) for a penalty that is no constraint, got None for {penalty.name}"
            )
        lam = 1.0 if lam is None else lam
        _checks.nonnegative("lam", lam, schedule=True)
        return Rule(penalty, lam)

    def targeted(penalty: Penalty, lam: optax.ScalarOrSchedule | None, sparsity: optax.ScalarOrSchedule) -> Rule:
        if lam is not None:
            raise TypeError(f"sparsity must be None if lam is given, got sparsity={sparsity!r}, lam={lam!r}")
        if penalty.is_constraint:
            raise TypeError(f"sparsity must be given to the constraint itself, got {sparsity!r} beside {penalty!r}")
        try:
            penalty.threshold(1.0)
        except NotImplementedError:
            raise TypeError(f"sparsity must be given with a penalty that has a threshold, got {penalty!r}") from None
        _checks.fraction("sparsity", sparsity, schedule=True)
        return Rule(penalty, jnp.zeros((), jnp.float32), sparsity)

    rules = [rule(penalty, lam, sparsity)]
    for pattern, change in (overrides or {}).items():
        try:
            re.compile(pattern)
        except (re.error, TypeError):
            raise ValueError(f"overrides must have regular expressions as keys, got {pattern!r}") from None
        fields = {"penalty", "lam", "sparsity"}
        if change is not None and not (isinstance(change, Mapping) and set(change) <= fields and change):
            raise TypeError(
                f"overrides must hold a penalty, a lam or a sparsity, or None, got {change!r} for {pattern!r}"
            )
        given: Mapping[str, Any] = change or {}
        new: Penalty = given.get("penalty", penalty)
        fixed = "lam" in given or (isinstance(new, Penalty) and new.is_constraint)
        followed = "sparsity" in given
        rules.append(
            rule(
                new,
                given.get("lam", None if followed else lam),
                given.get("sparsity", None if fixed else sparsity),
            )
        )
    return rules


def mark_leaves(params: PyTree, mask: Mask, overrides: Overrides | None, rules: Sequence[Rule] = ()) -> Marks:
    """Returns the rule of each leaf of ``params``.

    Raises:
      TypeError: if an integer leaf is selected.
      ValueError: if an override never applies, the mask does not fit, or a penalty does not apply to a leaf's shape.
    """
    params = unboxed(params)
    leaves: list[tuple[KeyPath, Array]]
    structure: Structure
    leaves, structure = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_masked)
    if not leaves:
        return Marks(structure, [])
    patterns = list((overrides or {}).items())
    used = set()

    def rule_of(path: KeyPath, selected: bool, leaf: Array) -> int | None:
        if is_masked(leaf):
            return None
        name = path_name(path)
        rule = next((i for i, (pattern, _) in enumerate(patterns) if re.search(pattern, name)), None)
        if rule is not None:
            used.add(rule)
        if not selected or (rule is not None and patterns[rule][1] is None):
            return None
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"params must be floating-point where selected, got {jnp.result_type(leaf)} at {name}")
        index = 0 if rule is None else rule + 1
        if rules:
            try:
                rules[index].penalty.check_shape(jnp.shape(leaf))
            except ValueError as error:
                raise ValueError(f"{error} at {name!r}") from None
        return index

    selected = jax.tree.leaves(select(params, mask), is_leaf=is_masked)
    marks = Marks(structure, [rule_of(path, s, leaf) for (path, leaf), s in zip(leaves, selected, strict=True)])
    unused = [pattern for i, (pattern, _) in enumerate(patterns) if i not in used]
    if unused:
        reason = "it matches no path, or an earlier pattern claims every match"
        raise ValueError(f"overrides pattern {unused[0]!r} never applies: {reason}")
    return marks


def is_masked(node: PyTree) -> bool:
    """Returns whether a node stands for an unmarked leaf."""
    return isinstance(node, optax.MaskedNode)


def map_marked(function: Callable[..., PyTree], marks: Marks, first: PyTree, *rest: PyTree) -> PyTree:
    """Returns ``function(first, *rest)`` at each marked leaf, and ``first`` elsewhere."""
    columns = zip(*(marks.leaves(tree) for tree in (first, *rest)), strict=True)
    leaves = [xs[0] if rule is None else function(*xs) for rule, xs in zip(marks.rules, columns, strict=True)]
    return marks.replace(first, leaves)


def map_rules(
    function: Callable[[Rule, list[Array]], Sequence[Array]], rules: Sequence[Rule], marks: Marks, tree: PyTree
) -> PyTree:
    """Returns ``tree`` with the leaves of each rule replaced by ``function(rule, leaves)``; other leaves unchanged."""
    leaves = marks.leaves(tree)
    for i, rule in enumerate(rules):
        indices = [index for index, of in enumerate(marks.rules) if of == i]
        if indices and jnp.ndim(rule.lam):
            for index, lam in zip(indices, rule.lam, strict=True):
                (leaves[index],) = function(rule._replace(lam=lam), [leaves[index]])
        elif indices:
            for index, leaf in zip(indices, function(rule, [leaves[index] for index in indices]), strict=True):
                leaves[index] = leaf
    return marks.replace(tree, leaves)


def masked(marks: Marks, tree: PyTree) -> PyTree:
    """Returns ``tree`` with unmarked leaves replaced by ``MaskedNode``."""
    leaves = zip(marks.rules, marks.leaves(tree), strict=True)
    return marks.replace(tree, [optax.MaskedNode() if rule is None else leaf for rule, leaf in leaves])


def evaluate(function: Callable[[PyTree], PyTree], tree: PyTree) -> PyTree:
    """Returns ``function(tree)``; its shapes only where ``tree`` holds shapes."""
    abstract = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tree))
    return jax.eval_shape(function, tree) if abstract else function(tree)


def strong(number: ArrayLike) -> Array:
    """Returns ``number`` as a strongly typed array, so a saved and restored state does not recompile."""
    array = jnp.asarray(number)
    return jax.lax.convert_element_type(array, array.dtype)
