"""Optax chain of a recipe. Its numbers (λ, β, sparsity) are in its state, so changing them does not recompile."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

import rvsmjax as rv
from rvsmjax._pytree import PyTree
from rvsmjax.transforms import ADMMState, select

from ..penalties.registry import PENALTIES, find
from .programs import Restart
from .settings import Recipe
from .transforms.group_lasso import add_group_lasso
from .transforms.lookahead import lookahead
from .transforms.released_admm import SignedPercentile

RAMP = 2 / 3
"""Fraction of the training over which a schedule of sparsity or λ rises."""

TRIANGLE = 0.2, 0.07
"""The first and the last learning rate of the schedule ``triangle``, as multiples of the largest."""

GROUPED: dict[str, Callable[[], rv.Penalty]] = {
    f"group_{name}": functools.partial(lambda entry: rv.Grouped(entry(), axes="filters"), entry)
    for name, entry in PENALTIES.items()
} | {
    "channel_l1": lambda: rv.Grouped(rv.L1(), axes="channels"),
    "channel_l0": lambda: rv.Grouped(rv.L0(), axes="channels"),
}
"""Group penalties: ``group_`` on the weights into one unit or filter, ``channel_`` on the weights out of one."""
SHARES = ("top_k", "group_top_k")
"""Penalties that prescribe the sparsity and have no λ."""


def penalty_of(name: str) -> rv.Penalty:
    """Returns a penalty by name.

    Raises:
      ValueError: unknown name.
    """
    return GROUPED[name]() if name in GROUPED else find(name, *SHARES, *GROUPED)()


class Numbers(NamedTuple):
    """Numbers that may change without recompilation.

    Attributes:
      lam: λ, or its final value if it is scheduled.
      beta: β of ``rvsm``; for ``admm``, ρ times the number of pulls per step.
      sparsity: target sparsity.
      kept: number of nonzero components for ``admm``, int32; computed from a float32 sparsity it could be off by one.
    """

    lam: Array
    beta: Array
    sparsity: Array
    kept: Array


class NumberedState(NamedTuple):
    """State of a chain, with its numbers."""

    numbers: Numbers
    inner: optax.OptState


def make_optimizer(recipe: Recipe, steps: int, params: optax.Params) -> optax.GradientTransformation:
    """Returns the chain: weight decay, splitting before or after the momentum, learning rate, lookahead, pruning.

    Recipes that differ only in numbers or seed share one ``update``, hence one compiled step; if the numbers are equal
    too, they share the chain.

    Args:
      recipe: the recipe.
      steps: steps per epoch.
      params: initial parameters.
    """
    lam = recipe.lam
    if recipe.method == "rvsm" and recipe.penalty not in SHARES and recipe.sparsity and not recipe.follow:
        lam = _lam_of(recipe, params)
    selected = jax.tree.leaves(select(params, recipe.mask()))
    sizes = [leaf.size for leaf, chosen in zip(jax.tree.leaves(params), selected, strict=True) if chosen]
    beta = recipe.beta * len(sizes) if recipe.method == "admm" and recipe.pull_per_layer else recipe.beta
    kept = sum(sizes) - round(recipe.sparsity * sum(sizes))
    form = dataclasses.replace(
        recipe, seed=0, key=0, start=None, lam=0.0, beta=1.0, sparsity=0.5 if recipe.sparsity else 0.0
    )
    return _numbered(form, steps, lam, beta, recipe.sparsity, kept)


def _lam_of(recipe: Recipe, params: optax.Params) -> float:
    """Returns the λ that gives the initial weights the target sparsity, computed on the CPU if available.

    The search evaluates some sixty counts. On an accelerator each would wait for a running epoch of another run, and λ
    would differ between devices by rounding.
    """
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX runs without the CPU backend
        host = None
    with jax.default_device(host):
        penalty = penalty_of(recipe.penalty)
        weights = params if host is None else jax.device_get(params)
        return rv.lam_for_sparsity(weights, penalty, recipe.beta, recipe.sparsity, recipe.mask())


@functools.cache
def _numbered(
    form: Recipe, steps: int, lam: float, beta: float, sparsity: float, kept: int
) -> optax.GradientTransformation:
    def init(params: optax.Params) -> NumberedState:
        # Explicit dtypes: weakly typed arrays would make a restored state recompile the step.
        strength, pull, zeros = (jnp.asarray(x, float) for x in (lam, beta, sparsity))
        numbers = Numbers(strength, pull, zeros, jnp.asarray(kept, jnp.int32))
        return NumberedState(numbers, _chain(form, steps, numbers).init(params))

    return optax.GradientTransformation(init, _update(form, steps))


@functools.cache
def _update(form: Recipe, steps: int) -> Callable[..., tuple[optax.Updates, NumberedState]]:
    def update(
        updates: optax.Updates, state: NumberedState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, NumberedState]:
        updates, inner = _chain(form, steps, state.numbers).update(updates, state.inner, params)
        return updates, NumberedState(state.numbers, inner)

    return update


def _chain(form: Recipe, steps: int, numbers: Numbers) -> optax.GradientTransformation:
    total = steps * form.epochs
    ramp = max(1, round(RAMP * total))
    split = []
    if form.method == "rvsm":
        split = [_rvsm(form, ramp, numbers)]
    elif form.method == "admm":
        split = [_admm(form, steps, ramp, numbers)]
    moments = optax.trace(form.momentum, nesterov=form.nesterov)
    parts = [*split, moments] if form.placement == "coupled" else [moments, *split]
    decay = optax.add_decayed_weights(form.weight_decay, _kernels if form.decay == "kernels" else None)
    parts = [decay, *parts, optax.scale_by_learning_rate(learning_rates(form, total))]
    if form.loss_lasso:
        parts.insert(0, add_group_lasso(form.loss_lasso, form.mask()))
    if form.norm_biases != 1:
        parts.insert(0, optax.masked(optax.scale(form.norm_biases), _norm_biases))
    if form.lookahead:
        parts.append(lookahead(form.lookahead, total))
    if form.method == "frozen":
        parts.append(rv.keep_zeros(mask=form.mask()))
    elif form.method == "magnitude":
        sparsity = rv.cubic_sparsity(numbers.sparsity, 0, ramp)
        top = rv.TopK(sparsity=sparsity, scope="global")
        parts.append(rv.methods.gradual_pruning(top, every=10, mask=form.mask()))
    elif form.method == "sparsify":
        return rv.sparsify(optax.chain(*parts), numbers.sparsity, steps=total, mask=form.mask())
    return optax.chain(*parts)


def _kernels(params: optax.Params) -> PyTree:
    return select(params, lambda path: path.endswith("kernel"))


def _norm_biases(params: optax.Params) -> PyTree:
    return select(params, lambda path: "norm" in path and path.endswith("bias"))


def learning_rates(form: Recipe, total: int) -> optax.Schedule:
    """Returns the schedule of the learning rate over ``total`` steps."""
    if form.schedule == "cosine":
        warm_up = min(round(form.warm_up * total), total - 1)
        falling = optax.cosine_decay_schedule(form.learning_rate, total - warm_up)
        if not warm_up:
            return falling
        return optax.join_schedules([optax.linear_schedule(0.0, form.learning_rate, warm_up), falling], [warm_up])
    if form.schedule == "triangle":
        first, last = (share * form.learning_rate for share in TRIANGLE)
        top = max(1, min(round(form.warm_up * total), total - 1))
        rising, falling = (
            optax.linear_schedule(first, form.learning_rate, top),
            optax.linear_schedule(form.learning_rate, last, total - top),
        )
        return optax.join_schedules([rising, falling], [top])
    decays = {round(fraction * total): 0.1 for fraction in form.milestones}
    return optax.piecewise_constant_schedule(form.learning_rate, decays)


def _rvsm(form: Recipe, ramp: int, numbers: Numbers) -> optax.GradientTransformation:
    overrides = dict.fromkeys(form.left_out()) or None
    mask, beta = form.mask(), numbers.beta
    if form.penalty in SHARES:
        sparsity = rv.cubic_sparsity(numbers.sparsity, 0, ramp)
        if form.penalty == "top_k":
            top = rv.TopK(sparsity=sparsity, scope="global")
            return rv.rvsm(top, 1.0, beta, mask, update_every=10, overrides=overrides)
        return rv.rvsm(rv.Grouped(rv.TopK(sparsity=sparsity), axes="filters"), 1.0, beta, mask, overrides=overrides)
    if form.follow and form.sparsity:
        sparsity = rv.cubic_sparsity(numbers.sparsity, 0, ramp)
        return rv.rvsm(penalty_of(form.penalty), beta=beta, mask=mask, sparsity=sparsity, overrides=overrides)
    lam = numbers.lam
    rising = (lambda step: lam * jnp.clip(step / ramp, 0, 1) ** 2) if form.sparsity else lam
    return rv.rvsm(penalty_of(form.penalty), rising, beta, mask, overrides=overrides)


def _admm(form: Recipe, steps: int, ramp: int, numbers: Numbers) -> optax.GradientTransformation:
    constraint: rv.Penalty
    rising = rv.cubic_sparsity(numbers.sparsity, 0, ramp)
    if form.penalty == "signed_percentile":
        constraint = SignedPercentile(rising if form.follow else numbers.sparsity)
    elif form.follow:
        constraint = rv.TopK(sparsity=rising, scope="global")
    else:
        constraint = rv.TopK(k=numbers.kept, scope="global")
    return rv.admm(constraint, numbers.beta, dual_every=1 if form.dual_every == "step" else steps, mask=form.mask())


def restart_momentum(state: optax.OptState) -> optax.OptState:
    """Returns the state of a chain with zero momentum."""
    return _replaced(state, optax.TraceState, lambda node: jax.tree.map(jnp.zeros_like, node))


def restart_all(state: optax.OptState) -> optax.OptState:
    """Returns the state of a chain with zero momentum and zero dual variable; the next dual update recomputes u.

    The count becomes at least 1, so with ``dual_every=1`` the first step updates too.
    """

    def reset(node: ADMMState) -> ADMMState:
        return node._replace(z=jax.tree.map(jnp.zeros_like, node.z), count=jnp.maximum(node.count, 1))

    return _replaced(restart_momentum(state), ADMMState, reset)


def _replaced(state: PyTree, kind: type, function: Callable[[Any], PyTree]) -> PyTree:
    """Returns a tree with ``function`` applied to the nodes of one type."""

    def is_kind(node: object) -> bool:
        return isinstance(node, kind)

    return jax.tree.map(lambda node: function(node) if is_kind(node) else node, state, is_leaf=is_kind)


RESTARTS: dict[str, Restart | None] = {"nothing": None, "momentum": restart_momentum, "all": restart_all}
"""Resets of the chain's state before each epoch, by ``Recipe.restart``."""
