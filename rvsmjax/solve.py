"""``solve``: runs one chain on one problem to its limit point."""

from __future__ import annotations

import enum
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax.adjoint import ADJOINTS, attach, bounded_while, detached, pull, splittings
from rvsmjax.geometry import angle, float_dtype
from rvsmjax.penalties import moreau_envelope
from rvsmjax.problems import OneLayerProblem, splitting_residual
from rvsmjax.transforms import UnitSphereState, sparse_params, splitting_states


class Status(enum.IntEnum):
    """How a run ended."""

    CONVERGED = 0
    """The residual fell to the tolerance."""
    CAP = 1
    """The step cap was reached first."""
    DIVERGED = 2
    """The iterate or its residual became non-finite; the last finite iterate is returned."""


class Trace(NamedTuple):
    """History of a run, sampled every ``trace_every`` steps.

    All arrays have shape (max_steps // trace_every + 1,), padded with NaN after the end of the run.

    Attributes:
      lagrangian: f(w) + β·(Moreau envelope of P at w); f(w) if the chain has no splitting.
      theta: angle between w and w*, radians.
      gamma: angle between w and u, radians; 0 if the chain has no splitting, π/2 where u = 0.
      residual: the residual that is compared with ``tol``.
    """

    lagrangian: Array
    theta: Array
    gamma: Array
    residual: Array


Carry = tuple[Array, optax.OptState, Array, Array, Array, Trace | None]
"""w, the chain's state, steps, residual, status, trace."""


class Solution(NamedTuple):
    """Result of a run.

    Attributes:
      w: limit point, of shape (d,).
      u: its sparse partner, of shape (d,); equal to w if the chain has no splitting.
      steps: number of steps run.
      converged: whether the residual fell to ``tol``.
      residual: final residual.
      status: a ``Status``.
      opt_state: final state of the chain.
      trace: a ``Trace``, or None without ``trace_every``.
    """

    w: Array
    u: Array
    steps: Array
    converged: Array
    residual: Array
    status: Array
    opt_state: optax.OptState
    trace: Trace | None


def solve(
    problem: OneLayerProblem,
    transform: optax.GradientTransformation,
    w0: ArrayLike,
    w_star: ArrayLike,
    *,
    tol: ArrayLike = 1e-6,
    max_steps: int = 100_000,
    check_every: int = 1,
    trace_every: int | None = None,
    adjoint: Literal["implicit", "unroll"] | None = "implicit",
) -> Solution:
    r"""Returns the limit of w ← w + transform(∇f(w)), computed in one ``while_loop``.

    The run stops when :math:`\|\nabla f(w) + \beta(w - u)\|` is at most ``tol``. If the chain ends in ``unit_sphere``,
    only the tangential part counts; without an ``rvsm`` in the chain, the second term is absent. The residual does not
    depend on the learning rate. Composes with ``jit`` and ``vmap``.

    Args:
      problem: the loss and its gradient.
      transform: an optax chain, including the learning rate.
      w0: initial weights, of shape (d,).
      w_star: true weights, of shape (d,).
      tol: tolerance on the residual, > 0. In float32 the residual cannot fall much below 3e-8/η.
      max_steps: step cap, >= 1, rounded up to a multiple of ``check_every``.
      check_every: steps between evaluations of the residual, >= 1.
      trace_every: if given, record a ``Trace`` every this many steps; a multiple of ``check_every``.
      adjoint: how to differentiate the run.

        - ``"implicit"``: the implicit function theorem at the zero of the residual, in forward and reverse mode, to any
          order. w, u and the numbers in ``opt_state`` have derivatives in λ, β, the parameters of the penalty, w* and
          ``problem``, whether the chain closes over them or holds them in its state. They have none in ``w0``, the
          learning rate or momentum, which do not move the limit; the other fields have no derivatives. Costs one d × d
          inverse, independent of the number of steps, and nothing unless differentiated. The support of u is held
          fixed. The derivative of w is 0 if the limit is not isolated or the run diverged, and only as accurate as
          the run is converged.
        - ``"unroll"``: differentiates the iterates, in forward and reverse mode. Always runs ``max_steps`` iterations
          and stores ``max_steps / check_every + check_every`` iterates. May be non-finite if the run diverges.
        - ``None``: differentiates the iterates, in forward mode only.

    Raises:
      TypeError: if ``problem`` is not a OneLayerProblem or ``transform`` not an optax transformation.
      ValueError: if shapes differ, ``tol`` <= 0, a count is not a whole number in [1, 2**31), ``adjoint`` is unknown,
        or an implicit derivative is requested through ``admm`` or ``keep_zeros``.

    Source: A Algorithm 1, and section 5.1 for the limit.

    Example:
      >>> import rvsmjax as rv
      >>> tx = optax.chain(rv.rvsm(rv.L1(), lam=1e-4, beta=4e-3), optax.sgd(0.25), rv.unit_sphere())
      >>> w_star = jnp.array([0.6, 0.8])
      >>> solution = rv.solve(rv.NoOverlapReLU(2), tx, jnp.array([1.0, 0.0]), w_star)
      >>> bool(solution.converged), float(rv.angle(solution.w, w_star)) < 1e-3
      (True, True)
      >>> def turned(lam):
      ...     tx = optax.chain(rv.rvsm(rv.L1(), lam, beta=4e-3), optax.sgd(0.25), rv.unit_sphere())
      ...     return rv.angle(rv.solve(rv.NoOverlapReLU(2), tx, jnp.array([1.0, 0.0]), w_star).u, w_star)
      >>> round(float(jax.grad(turned)(1e-4)))
      54
    """
    if not isinstance(problem, OneLayerProblem):
        raise TypeError(f"problem must be an instance of OneLayerProblem, got {_checks.show(problem)}")
    if not isinstance(transform, optax.GradientTransformation):
        raise TypeError(f"transform must be an optax.GradientTransformation, got {_checks.show(transform)}")
    w0, w_star = jnp.asarray(w0), jnp.asarray(w_star)
    dtype = float_dtype(w0, w_star)
    w0, w_star = w0.astype(dtype), w_star.astype(dtype)
    _checks.last_axis(w0=w0, w_star=w_star)
    if w0.ndim != 1 or w_star.ndim != 1:
        raise ValueError(f"w0 must be one vector (use vmap for more), got shapes {w0.shape} and {w_star.shape}")
    _checks.positive("tol", tol)
    max_steps = _checks.count("max_steps", max_steps)
    check_every = _checks.count("check_every", check_every)
    if trace_every is not None:
        trace_every = _checks.count("trace_every", trace_every)
        if trace_every % check_every:
            raise ValueError(f"trace_every must be a multiple of check_every = {check_every}, got {trace_every}")
    if adjoint not in ADJOINTS:
        raise ValueError(f"adjoint must be 'implicit', 'unroll' or None, got {_checks.show(adjoint)}")
    chain = optax.with_extra_args_support(transform)
    start = chain.init(w0)
    live, update = (start, problem, w_star), chain.update
    if adjoint == "implicit":
        # attach() adds the limit's derivative below; the loop needs none.
        update = detached(chain.update, w0, start)
        w0, start, problem, w_star = jax.lax.stop_gradient((w0, start, problem, w_star))
    spherical = any(
        isinstance(node, UnitSphereState)
        for node in jax.tree.leaves(start, is_leaf=lambda node: isinstance(node, UnitSphereState))
    )

    def residual(w: Array, opt_state: optax.OptState) -> Array:
        return splitting_residual(problem, w, w_star, pull(w, splittings(opt_state)), spherical).astype(dtype)

    def partner(w: Array, opt_state: optax.OptState) -> Array:
        return sparse_params(opt_state, w) if splitting_states(opt_state) else w

    def observe(trace: Trace | None, t: Array, w: Array, opt_state: optax.OptState, res: Array) -> Trace | None:
        if trace is None or trace_every is None:
            return trace
        value = problem.loss(w, w_star)
        for rule, beta in splittings(opt_state):
            value += beta * moreau_envelope(rule.penalty, w, rule.lam / beta)
        row = jnp.where(t % trace_every == 0, t // trace_every, len(trace.theta))
        sample = Trace(value, angle(w, w_star), angle(w, partner(w, opt_state)), res)
        return Trace(*(a.at[row].set(b.astype(dtype), mode="drop") for a, b in zip(trace, sample, strict=True)))

    def step(carry: tuple[Array, optax.OptState], _: None) -> tuple[tuple[Array, optax.OptState], None]:
        w, opt_state = carry
        updates, opt_state = update(problem.grad(w, w_star).astype(dtype), opt_state, w)
        return (optax.apply_updates(w, updates), opt_state), None

    def advance(carry: Carry) -> Carry:
        w, opt_state, t, res, _, trace = carry
        (new, new_state), _ = jax.lax.scan(step, (w, opt_state), length=check_every)
        t = t + check_every
        new_res = residual(new, new_state)
        finite = jnp.isfinite(new_res) & jnp.all(jnp.isfinite(new))
        status = jnp.where(finite, jnp.where(new_res <= tol, Status.CONVERGED, Status.CAP), Status.DIVERGED)
        w, opt_state = jax.tree.map(lambda a, b: jnp.where(finite, a, b), (new, new_state), (w, opt_state))
        res = jnp.where(finite, new_res, res)
        return w, opt_state, t, res, status.astype(jnp.int32), observe(trace, t, w, opt_state, res)

    def unfinished(carry: Carry) -> Array:
        _, _, t, _, status, _ = carry
        return (status == Status.CAP) & (t < max_steps)

    first = residual(w0, start)
    empty = None
    if trace_every is not None:
        empty = Trace(*[jnp.full(max_steps // trace_every + 1, jnp.nan, dtype)] * len(Trace._fields))
    # A running lane carries Status.CAP until it converges or diverges.
    state = jnp.where(first <= tol, Status.CONVERGED, Status.CAP).astype(jnp.int32)
    carry = (w0, start, jnp.zeros((), jnp.int32), first, state, observe(empty, jnp.zeros((), int), w0, start, first))
    if adjoint == "unroll":
        carry = bounded_while(unfinished, advance, carry, -(-max_steps // check_every))
    else:
        carry = jax.lax.while_loop(unfinished, advance, carry)
    w, opt_state, steps, res, status, trace = carry
    if adjoint == "implicit":
        w, opt_state = attach(chain, spherical, live[0], w, opt_state, status == Status.DIVERGED, *live[1:])
    return Solution(w, partner(w, opt_state), steps, status == Status.CONVERGED, res, status, opt_state, trace)
