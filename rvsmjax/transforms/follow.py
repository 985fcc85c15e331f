"""λ that follows a sparsity: over all leaves, in each, or over all with a floor for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax._pytree import PyTree
from rvsmjax._sharding import automatic, varying
from rvsmjax.geometry import working_dtype
from rvsmjax.penalties import L0, Grouped
from rvsmjax.penalties._arranged import Axes, along_stack, map_slices, stack_shape
from rvsmjax.penalties._tables import count
from rvsmjax.transforms.leaves.marks import Marks, map_marked, metric_leaves
from rvsmjax.transforms.rules import Rule, map_rules
from rvsmjax.transforms.target import step_for_sparsity, steps_for_sparsity

HUGE = 1e12
"""A magnitude above those of weights, with a square in float32."""


def by_leaf(rules: Sequence[Rule], marks: Marks, params: PyTree) -> tuple[Rule, ...]:
    """Returns the rules of a state with one λ per leaf, or per slice of a stack, where λ follows a sparsity."""

    def vector(index: int, rule: Rule) -> Rule:
        if rule.sparsity is None:
            return rule
        shapes = [(axes, jnp.shape(leaf)) for leaf, axes in marks.leaves_of(index, params)]
        count = sum(math.prod(stack_shape(axes, shape)) for axes, shape in shapes)
        return rule._replace(lam=jnp.zeros(count, jnp.float32))

    return tuple(vector(index, rule) for index, rule in enumerate(rules))


def follow_sparsity(
    rules: Sequence[Rule],
    marks: Marks,
    tree: PyTree,
    strength: ArrayLike = 1.0,
    metric: PyTree = None,
    least: int = 0,
) -> tuple[Rule, ...]:
    """Returns the rules with the λ at which the prox of ``tree`` at step λ/strength in a metric has their sparsity.

    Where each leaf has its own λ, it keeps at least a number of components or groups, ``least``.
    """
    weights = metric_leaves(marks, metric)

    def solved(index: int, rule: Rule) -> Rule:
        chosen = marks.leaves_of(index, tree)
        if rule.sparsity is None or not chosen:
            return rule
        own = [m for m, of in zip(weights, marks.rules, strict=True) if of == index]
        if jnp.ndim(rule.lam) > 0:
            step = _own_steps(rule, chosen, own, least)
        else:
            step = step_for_sparsity(
                rule.on([axes for _, axes in chosen], own).penalty, [leaf for leaf, _ in chosen], rule.sparsity
            )
        return rule._replace(lam=(step * strength).astype(jnp.result_type(rule.lam)))

    return tuple(solved(index, rule) for index, rule in enumerate(rules))


def hold_sparsity(rules: Sequence[Rule], last: Sequence[Rule], ratio: Array) -> tuple[Rule, ...]:
    """Returns the rules with the λ of the last ones, times ``ratio``, where it follows a sparsity."""

    def held(rule: Rule, old: Rule) -> Rule:
        return rule if rule.sparsity is None else rule._replace(lam=(old.lam * ratio).astype(jnp.result_type(old.lam)))

    return tuple(map(held, rules, last))


def _own_steps(
    rule: Rule, chosen: Sequence[tuple[Array, Axes | None]], metric: Sequence[Array | None], least: int
) -> Array:
    """Returns the steps that give each leaf its sparsity, one for each slice of a stack, a vector."""
    share: Any = rule.sparsity
    whole = [i for i, (leaf, axes) in enumerate(chosen) if not stack_shape(axes, leaf.shape)]
    steps: dict[int, Array] = {}
    if whole:
        penalty = rule.on([chosen[i][1] for i in whole], [metric[i] for i in whole]).penalty
        found = steps_for_sparsity(penalty, [chosen[i][0] for i in whole], share, least)
        steps = {i: found[n : n + 1] for n, i in enumerate(whole)}
    for i, ((leaf, axes), m) in enumerate(zip(chosen, metric, strict=True)):
        if i not in steps:

            def solve(x: Array, *m: Array, axes: Axes | None = axes) -> Array:
                return step_for_sparsity(rule.on([axes and axes.within], m).penalty, [x], share, least)

            steps[i] = map_slices(solve, axes, [leaf, *along_stack(axes, m, leaf.shape)], like=False).ravel()
    return jnp.concatenate([steps[i] for i in range(len(chosen))])


class Thresholds(NamedTuple):
    """Rules whose λ gives their sparsities.

    Attributes:
      rules: the rules, with one λ for all leaves, or for each where it was so.
      applied: the rules of the prox: with a λ for each leaf where a floor may hold some of them back.
    """

    rules: tuple[Rule, ...]
    applied: tuple[Rule, ...]


def thresholds(rules: Sequence[Rule], marks: Marks, tree: PyTree, floor: ArrayLike) -> Thresholds:
    """Returns the thresholds of rules whose λ is known already; none of them is held back."""
    floored = _floored(rules, marks, tree, floor)
    spread = by_leaf(
        [rule if i in floored else rule._replace(sparsity=None) for i, rule in enumerate(rules)], marks, tree
    )
    applied = [
        wide._replace(lam=jnp.broadcast_to(rule.lam, wide.lam.shape).astype(wide.lam.dtype)) if i in floored else rule
        for i, (rule, wide) in enumerate(zip(rules, spread, strict=True))
    ]
    return Thresholds(tuple(rules), tuple(applied))


def prox_of(rules: Sequence[Rule], marks: Marks, tree: PyTree, metric: PyTree) -> PyTree:
    """Returns ``tree`` with the leaves of each rule replaced by their prox at its λ."""
    return map_rules(lambda r, ws: r.penalty.prox_leaves(ws, r.lam), rules, marks, tree, metric)


def find_thresholds(rules: Sequence[Rule], marks: Marks, tree: PyTree, metric: PyTree, floor: ArrayLike) -> Thresholds:
    """Returns the thresholds at which u = prox(tree) has the sparsities of the rules.

    Where a leaf would keep less than ``floor`` times the fraction that all leaves keep together, its largest components
    stay up to that, and λ rises for the others. This holds for penalties that remove components or groups and change
    nothing else.
    """
    found = follow_sparsity(rules, marks, tree, metric=metric)
    floored = _floored(rules, marks, tree, floor)
    if not floored:
        return Thresholds(found, found)
    u = prox_of(found, marks, tree, metric)
    short = [test for i in sorted(floored) for test in _short(rules[i], marks.leaves_of(i, u), floor)]

    def lower(rule: Rule) -> Rule:
        return rule._replace(sparsity=1 - floor * (1 - jnp.asarray(rule.sparsity)))

    def raised() -> Thresholds:
        lowered = [lower(rule) if i in floored else rule._replace(sparsity=None) for i, rule in enumerate(rules)]
        own = follow_sparsity(by_leaf(lowered, marks, tree), marks, tree, metric=metric, least=1)
        # What stays in any case counts as larger than all others. The square is that of the norm of a group.
        held = map_marked(
            lambda w, v: jnp.where(v != 0, HUGE, w.astype(working_dtype(w))),
            marks,
            tree,
            prox_of(own, marks, tree, metric),
        )
        higher = follow_sparsity(rules, marks, held, metric=metric)
        both = [
            one._replace(lam=jnp.minimum(one.lam, all_.lam), sparsity=all_.sparsity) if i in floored else all_
            for i, (one, all_) in enumerate(zip(own, higher, strict=True))
        ]
        return Thresholds(higher, tuple(both))

    chosen = marks.marked(tree)
    given = thresholds(found, marks, tree, floor)
    return jax.lax.cond(jnp.any(jnp.stack(short)), lambda: varying(raised(), chosen), lambda: varying(given, chosen))


def _floored(rules: Sequence[Rule], marks: Marks, tree: PyTree, floor: ArrayLike) -> set[int]:
    """Returns the rules under whose global λ a leaf or a slice may need its floor."""
    if isinstance(floor, (int, float)) and floor == 0:  # an injected hyperparameter is traced
        return set()
    return {i for i, rule in enumerate(rules) if _has_floor(rule) and _parts(marks.leaves_of(i, tree)) > 1}


def _parts(chosen: Sequence[tuple[Array, Axes | None]]) -> int:
    return sum(math.prod(stack_shape(axes, leaf.shape)) for leaf, axes in chosen)


def _has_floor(rule: Rule) -> bool:
    inner = rule.penalty.penalty if isinstance(rule.penalty, Grouped) else rule.penalty
    return rule.sparsity is not None and jnp.ndim(rule.lam) == 0 and type(inner) is L0


def _nonzeros(x: Array) -> Array:
    return automatic(lambda xs: count(xs[0] != 0)[0], [x], like=False)


def _short(rule: Rule, chosen: Sequence[tuple[Array, Axes | None]], floor: ArrayLike) -> list[Array]:
    """Returns, for each leaf, whether it or a slice of it has fewer nonzero components than the floor."""
    kept = floor * (1 - jnp.asarray(rule.sparsity))

    def short(leaf: Array, axes: Axes | None) -> Array:
        size = leaf.size // math.prod(stack_shape(axes, leaf.shape))
        counts = map_slices(_nonzeros, axes, [leaf], like=False)
        return jnp.any(counts < jnp.maximum(kept * size - 1, 1))

    return [short(leaf, axes) for leaf, axes in chosen if leaf.size]
