"""The optax chain of a recipe. Its numbers (λ, β, shares of zeros) are part of its state, not of the program."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

import rvsmjax as rv
from rvsmjax._pytree import PyTree
from rvsmjax.transforms import ADMMState, select

from ..penalties.registry import PENALTIES, find
from .magnitude import magnitude_pruning
from .programs import Restart
from .released_admm import SignedPercentile
from .settings import Recipe

RAMP = 2 / 3
"""Share of the epochs over which a schedule of sparsity or λ rises."""

GROUPED: dict[str, Callable[[], rv.Penalty]] = {
    f"group_{name}": functools.partial(lambda entry: rv.Grouped(entry(), axes="filters"), entry)
    for name, entry in PENALTIES.items()
} | {"channel_l1": lambda: rv.Grouped(rv.L1(), axes="channels")}
"""A group is the weights into one unit or filter, in ``channel_`` those out of one."""
SHARES = ("top_k", "group_top_k")
"""Penalties whose strength is their share of zeros."""


def penalty_of(name: str) -> rv.Penalty:
    """Returns a penalty by its name.

    Raises:
      ValueError: there is none.
    """
    return GROUPED[name]() if name in GROUPED else find(name, *SHARES, *GROUPED)()


class Numbers(NamedTuple):
    """What may change without a new compilation.

    Attributes:
      lam: λ, at the end of its rise where it has one.
      beta: β of ``rvsm``; of ``admm`` ρ, times the number of pulls a step.
      sparsity: share of zeros wanted.
      kept: components that ``admm`` keeps, int32: a share in float32 may miss the exact count by one.
    """

    lam: Array
    beta: Array
    sparsity: Array
    kept: Array


class NumberedState(NamedTuple):
    """The state of a chain, and the numbers it was made with."""

    numbers: Numbers
    inner: optax.OptState


def make_optimizer(recipe: Recipe, steps: int, params: optax.Params) -> optax.GradientTransformation:
    """Returns the chain: weight decay, the splitting at its place in SGD, then what sets zeros.

    Recipes that differ in numbers or seed alone share one ``update``, hence one compiled step; where the numbers are
    equal too, they get the same object.

    Args:
      recipe: what to make.
      steps: of an epoch.
      params: at the start.
    """
    lam = recipe.lam
    if recipe.method == "rvsm" and recipe.penalty not in SHARES and recipe.sparsity:
        lam = _lam_of(recipe, params)
    taken = jax.tree.leaves(select(params, recipe.mask()))
    sizes = [leaf.size for leaf, own in zip(jax.tree.leaves(params), taken, strict=True) if own]
    beta = recipe.beta * len(sizes) if recipe.method == "admm" and recipe.pull_per_layer else recipe.beta
    kept = sum(sizes) - round(recipe.sparsity * sum(sizes))
    form = dataclasses.replace(
        recipe, seed=0, key=0, start=None, lam=0.0, beta=1.0, sparsity=0.5 if recipe.sparsity else 0.0
    )
    return _numbered(form, steps, lam, beta, recipe.sparsity, kept)


def _lam_of(recipe: Recipe, params: optax.Params) -> float:
    """Returns the λ at which a share ``sparsity`` of the weights is 0 at the start; found on the host where it can be.

    The search asks for a count some sixty times. On an accelerator each answer would wait for the epoch that another
    run has in hand there, and λ would differ between devices by rounding.
    """
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX was told to leave the CPU out
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
        # The dtype is given, else the arrays are weakly typed and a state that was restored compiles the step again.
        strength, pull, share = (jnp.asarray(x, float) for x in (lam, beta, sparsity))
        numbers = Numbers(strength, pull, share, jnp.asarray(kept, jnp.int32))
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
    rates: optax.Schedule
    if form.schedule == "cosine":
        rates = optax.cosine_decay_schedule(form.learning_rate, total)
    else:
        ends = {round(share * total): 0.1 for share in form.milestones}
        rates = optax.piecewise_constant_schedule(form.learning_rate, ends)
    split = []
    if form.method == "rvsm":
        split = [_rvsm(form, ramp, numbers)]
    elif form.method == "admm":
        split = [_admm(form, steps, numbers)]
    moments = optax.trace(form.momentum, nesterov=form.nesterov)
    parts = [*split, moments] if form.placement == "coupled" else [moments, *split]
    parts = [optax.add_decayed_weights(form.weight_decay), *parts, optax.scale_by_learning_rate(rates)]
    if form.method == "frozen":
        parts.append(rv.keep_zeros(mask=form.mask()))
    elif form.method == "magnitude":
        shares = rv.cubic_sparsity(numbers.sparsity, 0, ramp)
        parts.append(magnitude_pruning(shares, every=10, mask=form.mask()))
    return optax.chain(*parts)


def _rvsm(form: Recipe, ramp: int, numbers: Numbers) -> optax.GradientTransformation:
    overrides = dict.fromkeys(form.left_out()) or None
    mask, beta = form.mask(), numbers.beta
    if form.penalty in SHARES:
        share = rv.cubic_sparsity(numbers.sparsity, 0, ramp)
        if form.penalty == "top_k":
            top = rv.TopK(sparsity=share, scope="global")
            return rv.rvsm(top, 1.0, beta, mask, update_every=10, overrides=overrides)
        return rv.rvsm(rv.Grouped(rv.TopK(sparsity=share), axes="filters"), 1.0, beta, mask, overrides=overrides)
    lam = numbers.lam
    rising = (lambda step: lam * jnp.clip(step / ramp, 0, 1) ** 2) if form.sparsity else lam
    return rv.rvsm(penalty_of(form.penalty), rising, beta, mask, overrides=overrides)


def _admm(form: Recipe, steps: int, numbers: Numbers) -> optax.GradientTransformation:
    constraint: rv.Penalty = rv.TopK(k=numbers.kept, scope="global")
    if form.penalty == "signed_percentile":
        constraint = SignedPercentile(numbers.sparsity)
    return rv.admm(constraint, numbers.beta, dual_every=1 if form.dual_every == "step" else steps, mask=form.mask())


def restart_momentum(state: optax.OptState) -> optax.OptState:
    """Returns the state of a chain with its momentum at 0, as of an optimizer made anew."""

    def anew(node: PyTree) -> PyTree:
        return jax.tree.map(jnp.zeros_like, node) if isinstance(node, optax.TraceState) else node

    return jax.tree.map(anew, state, is_leaf=lambda node: isinstance(node, optax.TraceState))


def restart_all(state: optax.OptState) -> optax.OptState:
    """Returns the same with the dual variable of ADMM at 0 too; u is formed anew at the next update that is due.

    The count is then at least 1, so that with ``dual_every=1`` the first update is due as well.
    """

    def anew(node: PyTree) -> PyTree:
        if not isinstance(node, ADMMState):
            return node
        return node._replace(z=jax.tree.map(jnp.zeros_like, node.z), count=jnp.maximum(node.count, 1))

    return jax.tree.map(anew, restart_momentum(state), is_leaf=lambda node: isinstance(node, ADMMState))


RESTARTS: dict[str, Restart | None] = {
    "nothing": None,
    "momentum": restart_momentum,
    "all": restart_all,
}
"""What is done to the state of the chain before an epoch."""
