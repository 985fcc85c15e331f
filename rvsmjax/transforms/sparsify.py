"""Sparse training around any optimizer: the parameters are u, and the state holds the rest of w."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import DTypeLike

from rvsmjax import _checks
from rvsmjax._pytree import PyTree
from rvsmjax._sharding import varying
from rvsmjax.geometry import working_dtype
from rvsmjax.penalties import L0, NM, Grouped, Penalty, TopK
from rvsmjax.penalties._arranged import INPUTS, OTHER, OUTPUTS, Axes, stack_shape
from rvsmjax.penalties.top_k import SCOPES
from rvsmjax.transforms.follow import by_leaf, find_thresholds, prox_of, thresholds
from rvsmjax.transforms.leaves.layouts import Layout, check_layout
from rvsmjax.transforms.leaves.marks import Marks, map_marked, masked, require_arrays
from rvsmjax.transforms.leaves.selection import Mask
from rvsmjax.transforms.metric import SECOND_MOMENT, Metric, next_metric, second_moment, start_metric
from rvsmjax.transforms.optimizers import SCALED, Defaults, defaults_for
from rvsmjax.transforms.precision import change_to, check_state_dtype, rounded
from rvsmjax.transforms.rules import (
    Overrides,
    Rule,
    make_rules,
    mark_leaves,
    numbers_at,
)

FREEZE = 0.8
"""Share of the training after which the pattern no longer changes."""
SELECTING = (L0, TopK, NM)
"""Penalties, and those of which groups, whose prox makes components zero and leaves the others as they are."""
FLOOR = 0.2
"""No leaf is sparser than if it kept a fifth of its share."""


class SparsifyState(NamedTuple):
    """State of ``sparsify``.

    Attributes:
      count: number of updates, int32.
      marks: the rule that applies to each leaf, without arrays.
      rules: penalties, λ and sparsities of the last update, schedules resolved.
      pull: α of the last update; 1 once the pattern is frozen, when w becomes u.
      inner_state: state of the optimizer.
      residual: w − u for the selected leaves: what zero components have learned, and what rounding has left of nonzero
        ones. At least float32 unless another dtype was asked for.
      metric: the metric of the last update, for the selected leaves that have one; None without, or if it is the second
        moment in ``inner_state``.
    """

    count: Array  # type: ignore[assignment]  # optax's name, over the method of tuples
    marks: Marks
    rules: tuple[Rule, ...]
    pull: Array
    inner_state: optax.OptState
    residual: PyTree
    metric: PyTree = None

    def sparse(self, params: optax.Params) -> PyTree:
        """Returns ``params``, which are u."""
        return params


def sparsify(
    optimizer: optax.GradientTransformation,
    sparsity: optax.ScalarOrSchedule | None = None,
    *,
    steps: int,
    penalty: Penalty | None = None,
    mask: Mask = None,
    overrides: Overrides | None = None,
    scope: str = "global",
    floor: float = FLOOR,
    pull: optax.ScalarOrSchedule | None = None,
    rate: optax.ScalarOrSchedule | None = None,
    freeze: int | None = None,
    dense: bool | None = None,
    layout: Layout | None = None,
    metric: Metric | str = None,
    state_dtype: DTypeLike | None = None,
    update_every: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Returns ``optimizer`` with sparse parameters: they are u at every step, without a projection at the end.

    .. math:: w \leftarrow u + \Delta + (1 - \alpha)(w - u), \qquad u = \mathrm{prox}_{\lambda P}(w)

    The state keeps w − u, and the gradient is that at u. Every component takes the optimizer's update Δ, those that are
    zero in u included: they keep learning in w, and become nonzero when they exceed the threshold. The pull α lets what
    they have learned fade.

    Muon, Lion and Adafactor (matrix products, signs, factored moments) do better on the gradient of the nonzero
    components alone: then a zero component takes the step −r·g, where r is the RMS of Δ over that of the gradient, both
    over the nonzero components of its leaf (over the zero components if their gradient is larger).

    Behind SGD and its like a neuron or filter without nonzero components stays so. Its outputs have no variance, so a
    batch normalization behind it would divide their gradient by the root of its ε, and the zero components would move
    hundreds of times too fast. So groups of whole filters do not return once they are zero.

    With the default penalty, ℓ0, u holds the largest components of w by magnitude. The sparsity rises along a cubic
    schedule until two thirds of ``steps``; behind second moments, as in Adam, a final sparsity of 95 % and more rises
    with the fifth power, earlier at first. For Muon and Lion it rises with the fifth power until three quarters; for
    Adafactor too from 90 %, up to 80 % with the third power. Between these sparsities the power rises linearly. At four
    fifths of ``steps`` the pattern is frozen and w becomes u. ℓ1 also shrinks what it keeps, by a threshold that is
    larger than the steps of the zero components: for it, ``rvsm`` does better.

    Unlike in ``rvsm``, the gradient is taken at u and not at w. Parameters in bfloat16 need no float32 copy: the
    residual keeps what rounding takes from the selected leaves.

    Args:
      optimizer: any optax optimizer, complete with its learning rate. Nothing may follow in a chain.
      sparsity: final fraction of zeros, in [0, 1), or a schedule of it; None if ``penalty`` is a constraint.
      steps: total number of updates of the training, >= 1.
      penalty: P, by default ``L0``. λ follows the sparsity.
      mask: which leaves, see ``select``.
      overrides: other penalties or sparsities for some leaves, see ``rvsm``.
      scope: whether the sparsity holds for all leaves together (``"global"``) or for each (``"leaf"``).
      floor: least fraction of nonzero components in each leaf, as a multiple of that in all leaves together, in [0, 1],
        with ℓ0 or groups of it and the scope ``"global"``. Without, a leaf of small weights can lose all of them.
      pull: share α of the way from w to u per step, in [0, 1], a number or a schedule. Defaults to 1/steps.
      rate: factor of the steps of the zero components, >= 0, a number or a schedule. Defaults to 1; to 0.3 for
        optimizers without a second moment, like SGD, whose steps are as noisy as the gradient.
      freeze: step from which on the pattern is fixed. Defaults to four fifths of ``steps``.
      dense: whether the optimizer sees the gradient of the zero components and moves them. Defaults to whether its
        update is elementwise in the sense above.
      layout: what each axis of a leaf means, see ``rvsm``. r is that of each slice of a stack.
      metric: which weights matter: the metric in which u is nearest to w, see ``rvsm``; or ``"second_moment"``, Adam's
        v, read in every step from the state of the optimizer, in which optax calls it ``nu``. As in ELSA it stands for
        the diagonal of the Hessian, as an average of squared gradients (not its root): with top-k or ℓ0 the largest
        v·w² stay. v is divided by its mean over the selected leaves, and at least 1e-8 then.
      state_dtype: dtype of the residual: None for that of the parameters and at least float32, float32, or bfloat16 for
        half the memory, by stochastic rounding: small steps of the zero components add up.
      update_every: steps between two choices of the pattern with ℓ0, top-k, N:M or groups of them, >= 1; in between it
        stays, and zero components move on. Defaults to 1. Other penalties are applied in every step.

    Raises:
      TypeError: if ``sparsity`` is missing, or given beside a constraint; if an integer leaf is selected, or the prox
        has no closed form in the metric.
      ValueError: if a number is out of range, ``update`` is called without ``params``, a mask, override, layout or
        metric does not fit, ``state_dtype`` is another one, or the state of the optimizer has no second moment, or
        several.

    Source: F Algorithm 1 takes the gradient at the discrete weights and keeps real ones, here for sparse weights.

    Example:
      >>> import rvsmjax as rv
      >>> w = jnp.array([1.0, 0.1, -0.5, 0.2])
      >>> tx = rv.sparsify(optax.sgd(0.1), 0.5, steps=10)
      >>> state = tx.init(w)
      >>> for _ in range(10):
      ...     updates, state = tx.update(w - 1, state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> int(jnp.sum(w == 0))
      2
    """
    layout = check_layout(layout)
    dtype = check_state_dtype(state_dtype)
    _checks.one_of("scope", scope, SCOPES)
    _checks.share("floor", floor)
    steps = _checks.count("steps", steps)
    freeze = max(1, round(FREEZE * steps)) if freeze is None else _checks.count("freeze", freeze)
    every = 1 if update_every is None else _checks.count("update_every", update_every)
    pull = 1 / steps if pull is None else pull
    _checks.share("pull", pull, schedule=True)
    if rate is not None:
        _checks.nonnegative("rate", rate, schedule=True)

    def ramped(rule: Rule, suited: Defaults) -> Rule:
        if rule.sparsity is None or callable(rule.sparsity):
            return rule
        # The pattern that is frozen is that of the step before.
        end = min(round(suited.end * steps), freeze - 1)
        if end < 1:
            return rule
        return rule._replace(sparsity=suited.ramp(rule.sparsity, end))

    penalty = L0() if penalty is None else penalty
    if sparsity is None and isinstance(penalty, Penalty) and not penalty.is_constraint:
        raise TypeError(f"sparsity must be given for a penalty that is no constraint, got None for {penalty.name}")
    rules = make_rules(penalty, None, overrides, sparsity)
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"optimizer must be an optax transformation with its learning rate, got {optimizer!r}")
    every = every if all(isinstance(_kind(rule.penalty), SELECTING) for rule in rules) else 1
    inner = optax.with_extra_args_support(optimizer)
    moments = isinstance(metric, str)
    if isinstance(metric, str):
        _checks.one_of("metric", metric, (SECOND_MOMENT,))

    def init(params: optax.Params) -> SparsifyState:
        count = jnp.zeros((), jnp.int32)
        marks = mark_leaves(params, mask, overrides, rules, layout)
        zeros = masked(marks, map_marked(lambda p: jnp.zeros_like(p, dtype or working_dtype(p)), marks, params))
        now, share = numbers_at(count, [ramped(rule, SCALED) for rule in rules], pull)
        now = by_leaf(now, marks, params) if scope == "leaf" else now
        start = inner.init(params)
        if moments:
            start_metric(lambda _: second_moment(start, marks), marks, params, now)
        weights = None if moments else start_metric(metric, marks, params, now)
        return SparsifyState(count, marks, now, share, start, zeros, weights)

    def update(
        updates: optax.Updates, state: SparsifyState, params: optax.Params | None = None, **extra: object
    ) -> tuple[optax.Updates, SparsifyState]:
        if params is None:
            raise ValueError("params must be passed to update: sparsify sets components of params + updates to 0")
        marks, frozen = state.marks, state.count >= freeze
        # The last choice before the pattern is frozen, or the training ends, is made with the final sparsity.
        held = frozen | ((state.count % every != 0) & (state.count != min(freeze, steps) - 1))
        require_arrays(marks, updates)
        weights = next_metric(state.metric, marks, extra.pop("metric", None))
        # A component that is zero in both u and w is not pruned: it starts at zero.
        kept = map_marked(lambda rest, u: (u != 0) | ((rest == 0) & ~frozen), marks, state.residual, params)
        optimize = functools.partial(inner.update, state=state.inner_state, params=params, **extra)
        suited = defaults_for(lambda: optimize(updates), state.inner_state, {x.shape for x in marks.marked(params)})
        # Gradients of single examples, as DP-SGD takes them, have other shapes: no component moves by them.
        by_example = any(g.shape != w.shape for g, w in zip(marks.marked(updates), marks.marked(params), strict=True))
        everywhere = suited.dense or by_example if dense is None else dense
        speed = suited.rate if rate is None else rate(state.count) if callable(rate) else rate
        rising = [ramped(rule, suited) for rule in rules]
        rules_now, share = numbers_at(state.count, rising, pull, like=(state.rules, state.pull))
        share = jnp.where(frozen, jnp.ones_like(share), share)
        seen = map_marked(lambda g, m: jnp.where(m | (everywhere & ~frozen), g, 0), marks, updates, kept)
        steps_taken, inner_state = optimize(seen)
        metric_now = second_moment(inner_state, marks) if moments else weights
        at_zeros = steps_taken if everywhere else _scaled_gradients(marks, updates, steps_taken, kept)
        if everywhere and not suited.revives:
            at_zeros = _without_empty(marks, at_zeros, kept)

        def move(rest: Array, u: Array, change: Array, other: Array, m: Array) -> Array:
            # In a nonzero component w − u is what rounding left of earlier steps, which does not fade.
            rest, u, change, other = (x.astype(working_dtype(u)) for x in (rest, u, change, other))
            return jnp.where(m, u + change + rest, speed * other + (1 - share).astype(rest.dtype) * rest)

        # The residual comes first: an Equinox model in place of params holds more than arrays.
        w = map_marked(move, marks, state.residual, params, steps_taken, at_zeros, kept)

        chosen = marks.marked(w)
        hold = lambda: varying(thresholds(state.rules, marks, w, floor), chosen)  # noqa: E731
        solve = lambda: varying(find_thresholds(rules_now, marks, w, metric_now, floor), chosen)  # noqa: E731
        rules_now, applied = jax.lax.cond(held, hold, solve)

        def only_kept() -> PyTree:
            return map_marked(lambda v, m: jnp.where(m, v, 0), marks, w, kept)

        def thresholded() -> PyTree:
            return prox_of(applied, marks, w, metric_now)

        if all(rule.penalty.separable for rule in rules):
            u = map_marked(lambda a, b: jnp.where(held, a, b), marks, only_kept(), thresholded())  # one pass
        else:
            u = jax.lax.cond(held, lambda: varying(only_kept(), chosen), lambda: varying(thresholded(), chosen))
        changes = map_marked(change_to, marks, steps_taken, params, u)
        # u as ``optax.apply_updates`` rounds it; a component that became zero keeps none of w once it is frozen.
        at_params = map_marked(lambda d, p: (p + d).astype(p.dtype), marks, changes, params)
        residual = map_marked(lambda v, x: (v - x) * (~frozen | (x != 0)), marks, w, at_params)
        count = optax.safe_increment(state.count)
        return changes, SparsifyState(
            count, marks, rules_now, share, inner_state, rounded(residual, dtype, state.count), weights
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _kind(penalty: Penalty) -> Penalty:
    return penalty.penalty if isinstance(penalty, Grouped) else penalty


def _scaled_gradients(marks: Marks, gradients: PyTree, updates: PyTree, kept: PyTree) -> PyTree:
    """Returns −r·gradient for each marked leaf or slice, r = RMS(update) of its nonzero components over RMS(gradient).

    The gradient is that of the nonzero components, or that of the zero components if it is larger: then the latter move
    no faster than the former. Where a leaf has no nonzero components, those of all leaves stand in.
    """
    index = [i for i, rule in enumerate(marks.rules) if rule is not None]
    columns = [[marks.leaves(tree)[i] for i in index] for tree in (gradients, updates, kept)]
    rows = zip(*columns, [marks.axes[i] for i in index], strict=True)
    # The barriers keep XLA from repeating the sums of all leaves in the program of each.
    sums = jax.lax.optimization_barrier([_sums(*row) for row in rows])
    totals = jax.tree.map(lambda *parts: jnp.stack([jnp.sum(x) if x.ndim else x for x in parts]), *sums)
    whole = jax.lax.optimization_barrier(jax.tree.map(jnp.sum, jax.lax.optimization_barrier(totals)))
    leaves = list(marks.leaves(gradients))
    for i, own in zip(index, sums, strict=True):
        here = jax.tree.map(lambda a, b, n=own.kept: jnp.where(n > 0, a, b), own, whole)
        root = lambda total, count: jnp.sqrt(total / jnp.maximum(count, 1))  # noqa: E731
        largest = jnp.maximum(root(here.gradient, here.kept), root(own.gradient_at_zeros, own.zeros))
        ratio = jnp.where(largest > 0, root(here.update, here.kept) / jnp.where(largest > 0, largest, 1), 0)
        leaves[i] = -ratio * leaves[i]
    return marks.replace(gradients, leaves)


def _without_empty(marks: Marks, updates: PyTree, kept: PyTree) -> PyTree:
    """Returns the updates of the marked leaves, 0 in each output that sums over components all of which are zero."""

    def remaining(update: Array, m: Array, axes: Axes | None) -> Array:
        inputs = (axes or Axes((OTHER,) * m.ndim)).inputs
        sums = math.prod(m.shape[axis] for axis in inputs) > 1
        return jnp.where(jnp.any(m, inputs, keepdims=True), update, 0) if sums else update

    rows = zip(marks.rules, marks.leaves(updates), marks.leaves(kept), marks.axes, strict=True)
    return marks.replace(updates, [row[0] if rule is None else remaining(*row) for rule, *row in rows])


class _Sums(NamedTuple):
    """Sums of squares over the nonzero and the zero components of a leaf, and their numbers.

    Float32 scalars, or one for each slice of a stack.
    """

    update: Array
    gradient: Array
    gradient_at_zeros: Array
    kept: Array
    zeros: Array


def _sums(gradient: Array, update: Array, kept: Array, axes: Axes | None) -> _Sums:
    slices = stack_shape(axes, gradient.shape)
    reduced = None if axes is None or not slices else axes.where((*INPUTS, *OUTPUTS, OTHER))

    def total(values: Array, where: Array) -> Array:
        return jnp.sum(jnp.where(where, values, 0).astype(jnp.float32), reduced, keepdims=reduced is not None)

    g, d = (jnp.square(values.astype(jnp.float32)) for values in (gradient, update))
    count = total(jnp.ones_like(g), kept)
    return _Sums(total(d, kept), total(g, kept), total(g, ~kept), count, gradient.size // math.prod(slices) - count)
