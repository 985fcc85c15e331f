"""Derivatives of a limit point by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax._pytree import PyTree
from rvsmjax.geometry import tangent, unit, working_dtype
from rvsmjax.penalties import Penalty
from rvsmjax.problems import OneLayerProblem
from rvsmjax.transforms import ADMMState, KeepZerosState, RVSMState, splitting_states
from rvsmjax.transforms.rules import Rule

Carry = TypeVar("Carry")
Update = Callable[[Array, optax.OptState, Array], tuple[Array, optax.OptState]]

ADJOINTS = ("implicit", "unroll", None)
"""Ways to differentiate a run, see ``solve``."""

OFF_EQUILIBRIUM = (ADMMState, KeepZerosState)
"""States of transformations whose limit w is not a zero of the force."""

Splittings = list[tuple[Rule, Array]]
"""The rule and β of each ``rvsm`` in a chain."""


def splittings(opt_state: optax.OptState) -> Splittings:
    """Returns the rule and β of each ``rvsm`` in a chain whose parameters are a single vector."""
    states = [state for state in splitting_states(opt_state) if isinstance(state, RVSMState)]
    if any(state.metric is not None for state in states):
        raise ValueError("metric must be None in the rvsm of solve, got one")
    rules = [state.rules[state.marks.rules[0] or 0] for state in states]
    scalar = [rule._replace(lam=jnp.reshape(rule.lam, ())) for rule in rules]  # a vector of one, if by leaf
    return [(rule, state.beta) for rule, state in zip(scalar, states, strict=True)]


def pull(w: Array, rules: Splittings) -> Array:
    """Returns Σ β(w − u) over the splittings."""
    total = jnp.zeros_like(w)
    for rule, beta in rules:
        penalty: Penalty = rule.penalty
        total = total + beta * penalty.shrinkage(w, rule.lam / beta)
    return total


def bounded_while(
    unfinished: Callable[[Carry], Array], body: Callable[[Carry], Carry], carry: Carry, rounds: int
) -> Carry:
    """Returns ``jax.lax.while_loop(unfinished, body, carry)``, at most ``rounds`` times, with a reverse mode.

    The reverse pass stores the carry of every iteration and recomputes the body's intermediates.
    """

    def one(carry: Carry, _: None) -> tuple[Carry, None]:
        return jax.lax.cond(unfinished(carry), jax.checkpoint(body), lambda same: same, carry), None

    return jax.lax.scan(one, carry, length=rounds)[0]


def detached(update: Update, w: Array, opt_state: optax.OptState) -> Update:
    """Returns an optax ``update`` with gradients stopped through the values it closes over, such as λ and β."""

    def plain(g: Array, opt_state: optax.OptState, w: Array) -> tuple[Array, optax.OptState]:
        return update(g, opt_state, w)

    # Stop the gradients at the inputs: otherwise the loop's derivative is compiled and then discarded.
    hoisted, captured = jax.closure_convert(plain, w, opt_state, w)
    captured = jax.lax.stop_gradient(captured)
    return lambda g, opt_state, w: hoisted(g, opt_state, w, *captured)


def attach(
    chain: optax.GradientTransformationExtraArgs,
    spherical: bool,
    start: optax.OptState,
    w: Array,
    opt_state: optax.OptState,
    lost: Array,
    problem: OneLayerProblem,
    w_star: Array,
) -> tuple[Array, optax.OptState]:
    """Returns ``w`` and ``opt_state`` unchanged, with the limit's derivative attached. Free unless differentiated.

    Args:
      chain: the chain, which may close over numbers.
      spherical: whether w stays on the sphere.
      start: the chain's initial state, differentiable.
      w: the limit, gradients stopped.
      opt_state: the chain's final state, gradients stopped.
      lost: whether the run diverged; the derivative of w is then 0.
      problem: the problem, differentiable.
      w_star: the true weights, differentiable.
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, OFF_EQUILIBRIUM))
    wrong = [type(node).__name__ for node in nodes if isinstance(node, OFF_EQUILIBRIUM)]
    if wrong:
        return _refuse(wrong[0], w, (jax.tree.leaves(start), problem, w_star)), opt_state
    # λ, β and a enter through the chain's closure or, if injected, through its initial state. One more update returns
    # them with their derivatives, with schedules evaluated at the current step.
    _, live = chain.update(jnp.zeros_like(w), jax.tree.map(_graft, opt_state, start), w)

    def numbers(node: PyTree, shown: PyTree) -> PyTree:
        if not isinstance(node, RVSMState):
            return node
        rules, beta = jax.tree.map(_graft, (node.rules, node.beta), (shown.rules, shown.beta))
        return node._replace(rules=rules, beta=beta)

    opt_state = jax.tree.map(numbers, opt_state, live, is_leaf=lambda node: isinstance(node, RVSMState))
    return _limit(spherical, w, lost, problem, w_star, splittings(opt_state)), opt_state


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _limit(spherical: bool, w: Array, lost: Array, problem: OneLayerProblem, w_star: Array, rules: Splittings) -> Array:
    """Returns ``w``, where the force F(w; problem, w*, rules) vanishes."""
    return w


@_limit.defjvp
def _limit_jvp(spherical: bool, primals: tuple[PyTree, ...], tangents: tuple[PyTree, ...]) -> tuple[Array, Array]:
    """dw = −(∂F/∂w)⁻¹ dF. On the sphere, F is the tangential part of the force and dw lies in the tangent space."""
    (_, lost, *given), (_, _, *changes) = primals, tangents
    # Through the custom rule again, so second derivatives work.
    w = _limit(spherical, *primals)
    # At a diverged w the force overflows, and 0 · ∞ is NaN.
    x = jnp.where(lost, given[1], w).astype(working_dtype(w))

    def force(x: Array, problem: OneLayerProblem, w_star: Array, rules: Splittings) -> Array:
        whole = problem.grad(x, w_star) + pull(x, rules)
        return tangent(x, whole) if spherical else whole

    _, moved = jax.jvp(lambda *numbers: force(x, *numbers), tuple(given), tuple(changes))
    slope = jax.jacfwd(force)(x, *given)
    if spherical:
        normal = unit(x)
        slope = slope + jnp.outer(normal - jnp.sum(slope * normal, -1), normal)
    # An explicit inverse, so the guard below applies to the transpose too.
    inverse = jnp.linalg.inv(slope)
    # At a limit that is not isolated, only rounding keeps the slope from being singular.
    condition = jnp.linalg.norm(slope, 1) * jnp.linalg.norm(inverse, 1)
    isolated = condition < 0.1 / jnp.finfo(x.dtype).eps
    inverse = jnp.where(isolated & ~lost, inverse, 0)
    return w, -jnp.sum(inverse * moved, -1).astype(w.dtype)


@jax.custom_jvp
def _graft(value: Array, live: Array) -> Array:
    """Returns ``value`` with the derivative of ``live``."""
    return value


@_graft.defjvp
def _graft_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    return _graft(*primals), tangents[1]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _refuse(kind: str, w: Array, others: PyTree) -> Array:
    return w


@_refuse.defjvp
def _refuse_jvp(kind: str, primals: tuple[PyTree, ...], tangents: tuple[PyTree, ...]) -> tuple[Array, Array]:
    raise ValueError(
        f"adjoint must be 'unroll' or None if the chain holds {kind} (nonzero force at its limit), got 'implicit'"
    )
