"""Rules that assign a penalty and λ to each leaf; shared by the splitting transformations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._pytree import PyTree, Structure, unboxed
from rvsmjax.penalties import Penalty
from rvsmjax.penalties._arranged import Axes, along_stack, arranged, map_slices, stack_shape
from rvsmjax.penalties._weighted import weighted
from rvsmjax.transforms.leaves.layouts import Layout, check_layout, is_masked, leaf_axes, named_leaves, require_fit
from rvsmjax.transforms.leaves.marks import Marks, metric_leaves
from rvsmjax.transforms.leaves.selection import Mask, check_patterns, first_matches, is_array, select

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

    def on(self, axes: Sequence[Axes | None], metric: Sequence[Array | None] = ()) -> Rule:
        """Returns the rule for leaves with these axes, in a metric."""
        return self._replace(penalty=weighted(arranged(self.penalty, axes), metric))


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


def _own_lams(rule: Rule, chosen: Sequence[tuple[Array, Axes | None]]) -> Iterator[Array]:
    """Yields the λ of each leaf, with the lengths of its stack axes, from the vector in a state."""
    each = iter(rule.lam)
    for leaf, axes in chosen:
        shape = stack_shape(axes, leaf.shape)
        yield jnp.stack([next(each) for _ in range(math.prod(shape))]).reshape(shape) if shape else next(each)


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
            jax.eval_shape(penalty.threshold, jax.ShapeDtypeStruct((), jnp.float32))  # no transfer to a device
        except NotImplementedError:
            shown = _checks.show(penalty)
            raise TypeError(f"sparsity must be given with a penalty that has a threshold, got {shown}") from None
        _checks.fraction("sparsity", sparsity, schedule=True)
        return Rule(penalty, np.zeros((), np.float32), sparsity)

    rules = [rule(penalty, lam, sparsity)]
    if not isinstance(overrides, Mapping | None):
        raise TypeError(f"overrides must be a dict from patterns of paths to changes, got {_checks.show(overrides)}")
    for pattern, change in (overrides or {}).items():
        check_patterns("overrides", [pattern])
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


def mark_leaves(
    params: PyTree,
    mask: Mask,
    overrides: Overrides | None,
    rules: Sequence[Rule] = (),
    layout: Layout | None = None,
) -> Marks:
    """Returns the rule and the axes of each leaf of ``params``.

    Raises:
      TypeError: if an integer leaf is selected.
      ValueError: if an override or a layout never applies, the mask or a layout does not fit, or a penalty does not
        apply to a leaf's shape.
    """
    layout = check_layout(layout)
    structure: Structure = jax.tree.structure(unboxed(params), is_leaf=is_masked)
    leaves = named_leaves(params)
    if not leaves:
        return Marks(structure, [], [])
    names = [name for name, _ in leaves]
    changes = list((overrides or {}).values())
    found = first_matches(
        "overrides", list(overrides or {}), [None if is_masked(leaf) else name for name, leaf in leaves]
    )

    def rule_of(name: str, leaf: PyTree, selected: bool, override: int | None) -> int | None:
        if (
            is_masked(leaf)
            or not is_array(leaf)
            or not selected
            or (override is not None and changes[override] is None)
        ):
            return None
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"params must be floating-point where selected, got {jnp.result_type(leaf)} at {name}")
        return 0 if override is None else override + 1

    selected = jax.tree.leaves(select(unboxed(params), mask), is_leaf=is_masked)
    columns = zip(leaves, selected, found, strict=True)
    indices = [rule_of(name, leaf, chosen, override) for (name, leaf), chosen, override in columns]
    if mask is None and not any(selected) and not any(is_masked(leaf) for _, leaf in leaves):
        text = f"no leaf is selected by default, so nothing becomes sparse: pass a mask for {', '.join(names)}"
        warnings.warn(text, stacklevel=4)
    axes = leaf_axes(params, layout, [index is not None for index in indices])
    for (name, leaf), index, of in zip(leaves, indices, axes, strict=True):
        if rules and index is not None:
            require_fit(rules[index].penalty, of, name, leaf, names)
    return Marks(structure, indices, axes)


def map_rules(
    function: Callable[[Rule, list[Array]], Sequence[Array]],
    rules: Sequence[Rule],
    marks: Marks,
    tree: PyTree,
    metric: PyTree = None,
) -> PyTree:
    """Returns ``tree`` with the leaves of each rule replaced by ``function(rule, leaves)``; other leaves unchanged.

    The penalty of ``rule`` is that in the ``metric`` of a state, None for the identity.
    """
    leaves, weights = marks.leaves(tree), metric_leaves(marks, metric)
    for i, rule in enumerate(rules):
        indices = [index for index, of in enumerate(marks.rules) if of == i]
        chosen = [(leaves[index], marks.axes[index]) for index in indices]
        new: Sequence[Array] = []
        if indices and jnp.ndim(rule.lam):
            lams = _own_lams(rule, chosen)
            parts = zip(chosen, [weights[index] for index in indices], strict=True)
            new = [_with_own(lambda r, x: function(r, [x])[0], rule, *part, next(lams), m) for part, m in parts]
        elif indices:
            own = [weights[index] for index in indices]
            new = function(rule.on([axes for _, axes in chosen], own), [leaf for leaf, _ in chosen])
        for index, leaf in zip(indices, new, strict=True):
            leaves[index] = leaf
    return marks.replace(tree, leaves)


def penalty_value(rules: Sequence[Rule], marks: Marks, tree: PyTree) -> Array:
    """Returns Σ λP over the marked leaves, a float32 scalar; 0 for a constraint, which u satisfies by construction."""

    def value(rule: Rule, leaf: Array) -> Array:
        penalty = jnp.nan_to_num(rule.penalty.value(leaf).astype(jnp.float32), posinf=0.0)
        return rule.lam.astype(jnp.float32) * penalty

    own = {i: _own_lams(rule, marks.leaves_of(i, tree)) for i, rule in enumerate(rules) if jnp.ndim(rule.lam)}
    total = jnp.zeros((), jnp.float32)
    for i, leaf, axes in zip(marks.rules, marks.leaves(tree), marks.axes, strict=True):
        if i in own:
            total = total + jnp.sum(_with_own(value, rules[i], leaf, axes, next(own[i]), like=False))
        elif i is not None:
            total = total + value(rules[i].on([axes]), leaf)
    return total


def _with_own(
    function: Callable[[Rule, Array], Array],
    rule: Rule,
    leaf: Array,
    axes: Axes | None,
    lam: Array,
    metric: Array | None = None,
    like: bool = True,
) -> Array:
    """Returns ``function(rule, slice)`` for each slice of a leaf, with a λ for each; see ``map_slices``."""

    def one(x: Array, *rest: Array) -> Array:
        *m, own = rest
        return function(rule.on([axes and axes.within], m)._replace(lam=own), x)

    return map_slices(one, axes, [leaf, *along_stack(axes, metric, leaf.shape)], [lam], like=like)


def strong(number: ArrayLike) -> Array:
    """Returns ``number`` as a new, strongly typed array, which can be donated; a restored state does not recompile."""
    array = jnp.array(number)
    return jax.lax.convert_element_type(array, array.dtype)
