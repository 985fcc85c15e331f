"""The support, masks of the components that may be nonzero, and what it does to gradients and updates."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax._pytree import PyTree
from rvsmjax.penalties import Penalty
from rvsmjax.transforms.leaves.marks import Marks, map_marked, masked
from rvsmjax.transforms.rules import Overrides, Rule, make_rules, map_rules


def constraints(penalty: Penalty, overrides: Overrides | None) -> list[Rule]:
    """Returns the rules of a constraint and of its overrides.

    Raises:
      TypeError: if a penalty is no constraint, and what ``make_rules`` raises.
    """
    rules = make_rules(penalty, 1.0, overrides)
    for rule in rules:
        if not rule.penalty.is_constraint:
            raise TypeError(f"penalty must be a constraint such as TopK or NM, got {rule.penalty!r}")
    return rules


def support_of(rules: Sequence[Rule], marks: Marks, tree: PyTree, count: Array) -> PyTree:
    """Returns where the prox of ``tree`` is nonzero, for the marked leaves, with schedules evaluated at ``count``."""
    now = [rule.at(count) for rule in rules]
    sparse = map_rules(lambda rule, leaves: rule.penalty.prox_leaves(leaves, rule.lam), now, marks, tree)
    return masked(marks, map_marked(lambda leaf: leaf != 0, marks, sparse))


def within(marks: Marks, support: PyTree, gradients: optax.Updates) -> optax.Updates:
    """Returns the gradients with those outside the support set to 0."""
    return map_marked(lambda g, live: jnp.where(live, g, 0), marks, gradients, support)


def moved(marks: Marks, updates: optax.Updates, params: optax.Params) -> PyTree:
    """Returns params + updates for the marked leaves, as ``optax.apply_updates`` rounds them."""
    return map_marked(lambda d, p: (p + d).astype(p.dtype), marks, updates, params)


def hold(marks: Marks, support: PyTree, updates: optax.Updates, params: optax.Params) -> optax.Updates:
    """Returns the updates after which parameters outside the support are 0."""
    return map_marked(lambda d, p, live: jnp.where(live, d, -p), marks, updates, params, support)
