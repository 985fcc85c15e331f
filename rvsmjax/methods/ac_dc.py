"""Alternating compressed and decompressed phases around any optimizer."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import GetAttrKey

from rvsmjax import _checks
from rvsmjax._pytree import KeyPath, PyTree
from rvsmjax._sharding import varying
from rvsmjax.methods._support import constraints, hold, moved, support_of, within
from rvsmjax.penalties import Penalty
from rvsmjax.transforms.leaves.layouts import Layout, check_layout
from rvsmjax.transforms.leaves.marks import Marks, map_marked, masked, require_arrays
from rvsmjax.transforms.leaves.selection import Mask
from rvsmjax.transforms.rules import Overrides, mark_leaves

WARM_UP, PERIOD, FINAL = 0.1, 0.05, 0.15
"""Shares of the training: the first decompressed phase, each other one, and the last compressed one."""
MOMENTS = {"trace": 1, "mu": 1, "nu": 2}
"""What optax calls the moments in the state of an optimizer, the first of which is the momentum."""


class ACDCState(NamedTuple):
    """State of ``ac_dc``.

    Attributes:
      count: number of updates, int32.
      marks: the rule that applies to each leaf, without arrays.
      support: masks of the components that may be nonzero, for the selected leaves; all of them while decompressed.
      inner_state: state of the optimizer.
    """

    count: Array  # type: ignore[assignment]  # optax's name; shadows tuple.count
    marks: Marks
    support: PyTree
    inner_state: optax.OptState

    def sparse(self, params: optax.Params) -> PyTree:
        """Returns ``params``, which are sparse in compressed phases."""
        return params


def ac_dc(
    optimizer: optax.GradientTransformation,
    penalty: Penalty,
    *,
    steps: int,
    warm_up: int | None = None,
    period: int | None = None,
    final: int | None = None,
    mask: Mask = None,
    overrides: Overrides | None = None,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns ``optimizer`` with parameters that are sparse in every other phase of the training, and at its end.

    The training starts decompressed: all components move. When a compressed phase starts, the parameters become their
    prox, and until it ends only the nonzero ones have gradients and move. The others are then 0 at the start of the
    decompressed phase, where the momentum starts from 0 again, as that of the pruned components is stale. The phases
    are: ``warm_up`` steps, decompressed; compressed and decompressed ones in turn of ``period`` steps each, as many
    pairs as fit; the last decompressed one is longer by the rest; ``final`` steps, compressed.

    Args:
      optimizer: any optax optimizer, complete with its learning rate. Its momentum is what optax calls ``trace`` or
        ``mu``. Nothing may follow in a chain.
      penalty: a constraint: ``TopK``, ``NM``, or groups of one. Its numbers may be schedules.
      steps: total number of updates of the training, >= 1.
      warm_up: steps of the first phase, >= 1. Defaults to a tenth of ``steps``.
      period: steps of each phase, >= 1. Defaults to a twentieth of ``steps``.
      final: steps of the last phase, >= 1. Defaults to 15 % of ``steps``.
      mask: which leaves, see ``select``.
      overrides: other constraints for some leaves, see ``rvsm``.
      layout: what each axis of a leaf means, see ``rvsm``.

    Raises:
      TypeError: if a penalty is no constraint, or an integer leaf is selected.
      ValueError: if a number is out of range, ``warm_up`` and ``final`` exceed ``steps``, ``update`` is called without
        ``params``, or a mask, override or layout does not fit.

    Source: A. Peste et al., arXiv 2106.12379, Algorithm 1; the defaults are the paper's phases on ImageNet.

    Example:
      >>> import rvsmjax as rv
      >>> w = jnp.array([1.0, 0.1, -0.5, 0.2])
      >>> tx, zeros = rv.methods.ac_dc(optax.sgd(0.1), rv.TopK(k=2), steps=10, period=2), []
      >>> state = tx.init(w)
      >>> for _ in range(10):
      ...     updates, state = tx.update(w - 1, state, w)
      ...     w = optax.apply_updates(w, updates)
      ...     zeros.append(int(jnp.sum(w == 0)))
      >>> zeros
      [2, 2, 2, 0, 0, 0, 0, 2, 2, 2]
    """
    rules = constraints(penalty, overrides)
    layout = check_layout(layout)
    steps = _checks.count("steps", steps)
    given = {"warm_up": (warm_up, WARM_UP), "period": (period, PERIOD), "final": (final, FINAL)}
    start, length, last = (
        max(1, round(share * steps)) if number is None else _checks.count(name, number)
        for name, (number, share) in given.items()
    )
    if start + last > steps:
        raise ValueError(f"warm_up + final must be at most steps = {steps}, got {start} + {last}")
    pairs = (steps - start - last) // length // 2
    inner = optax.with_extra_args_support(optimizer)

    def compressed(count: Array) -> Array:
        phase = (count - start) // length
        return (count >= steps - last) | ((phase >= 0) & (phase < 2 * pairs) & (phase % 2 == 0))

    def init(params: optax.Params) -> ACDCState:
        marks = mark_leaves(params, mask, overrides, rules, layout)
        support = masked(marks, map_marked(lambda p: jnp.ones_like(p, bool), marks, params))
        return ACDCState(jnp.zeros((), jnp.int32), marks, support, inner.init(params))

    def update(
        updates: optax.Updates, state: ACDCState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, ACDCState]:
        if params is None:
            raise ValueError("params must be passed to update: ac_dc sets components of params + updates to 0")
        marks, count = state.marks, state.count
        require_arrays(marks, updates)
        before, now, after = compressed(count - 1), compressed(count), compressed(count + 1)
        inner_state = _without_momentum(state.inner_state, before & ~now)
        gradients = within(marks, state.support, updates)
        changes, inner_state = inner.update(gradients, inner_state, params, **extra)
        chosen = marks.marked(params)

        def start_phase() -> PyTree:
            return varying(support_of(rules, marks, moved(marks, changes, params), count), chosen)

        # The components of the next step; those pruned so far are 0 once more.
        support = jax.lax.cond(after & ~now, start_phase, lambda: varying(state.support, chosen))
        support = map_marked(lambda live: live | ~after, marks, support)
        live = map_marked(jnp.logical_and, marks, state.support, support)
        return hold(marks, live, changes, params), ACDCState(optax.safe_increment(count), marks, support, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _without_momentum(state: optax.OptState, due: Array) -> optax.OptState:
    """Returns the state of an optimizer, its momentum 0 if ``due``."""

    def entry(path: KeyPath, leaf: Array) -> Array:
        # The first name alone is the optimizer's; those after it are of the parameters.
        moments = (MOMENTS[key.name] for key in path if isinstance(key, GetAttrKey) and key.name in MOMENTS)
        return jnp.where(due, 0, leaf).astype(leaf.dtype) if next(moments, None) == 1 else leaf

    return jax.tree_util.tree_map_with_path(entry, state)
