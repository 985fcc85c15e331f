"""RVSM and ADMM on one-layer ReLU problems, a tile of lanes at a time, to convergence or the step cap.

Both split min f(w) + λP(w), on the sphere if w is normalised, with the same weight β (ADMM's ρ) of ‖w − u‖². RVSM and
modified ADMM are the library's chains. The exact w-step minimises f(w) + (β/2)‖w − u + z‖², over the sphere if w is
normalised, with optax's L-BFGS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

import rvsmjax as rv
from rvsmjax.certificate import largest_learning_rate
from rvsmjax.geometry import norm, tangent, unit

from ...records.lanes import Numbers

METHODS = {"rvsm": "RVSM", "admm": "ADMM, exact", "modified": "ADMM, modified"}

INNER_STEPS = 10
"""Maximum number of L-BFGS steps per w-step."""


class Lanes(NamedTuple, Generic[Numbers]):
    """Random problems with start, λ and β; fields have a leading lane axis."""

    w_star: Numbers
    w0: Numbers
    lam: Numbers
    beta: Numbers


Count = Array | int
Point = tuple[Array, Array, Array]
"""w, u and z."""
Search = tuple[Array, optax.OptState, Array, Count]
"""Point, state of L-BFGS, norm of the gradient, number of steps."""
Method = tuple[tuple[Point, optax.OptState], Callable[[Point, optax.OptState], tuple[Point, optax.OptState]]]
"""Initial point and state of a method, and its step."""


class Outcome(NamedTuple):
    """Final state of lanes.

    Attributes:
      zeros: share of zeros in u.
      theta_w: angle between w and w*.
      theta_u: angle between u and w*, π/2 where u = 0.
      gap: ‖w − u‖.
      norm_u: ‖u‖.
      loss_u: f(u).
      residual: residual compared with the tolerance.
      steps: number of steps.
      converged: whether residual <= tolerance.
      u: the sparse iterate, of shape (..., d).
    """

    zeros: Array
    theta_w: Array
    theta_u: Array
    gap: Array
    norm_u: Array
    loss_u: Array
    residual: Array
    steps: Count
    converged: Array
    u: Array


def run_tile(
    lanes: Lanes[Array], *, method: str, penalty: rv.Penalty, k: int, normalize: bool, tol: float, max_steps: int
) -> Outcome:
    """Returns the final state of a tile's lanes.

    RVSM has converged if ‖∇f(w) + β(w − u)‖ <= ``tol`` (``rv.solve``), ADMM if ‖w − u‖ <= ``tol`` and
    ‖∇f(w) + βz‖ <= ``tol``; if w is normalised, gradients are projected onto the tangent space. The learning rate is
    1/(β + 4).
    """
    problem = rv.NoOverlapReLU(k)

    def rvsm(lane: Lanes[Array]) -> Outcome:
        chain = _chain(rv.rvsm(penalty, lane.lam, lane.beta), lane.beta, normalize)
        end = rv.solve(problem, chain, lane.w0, lane.w_star, tol=tol, max_steps=max_steps)
        return _outcome(problem, lane, end.w, end.u, end.residual, end.steps, tol)

    def admm(lane: Lanes[Array]) -> Outcome:
        def residual(w: Array, u: Array, z: Array) -> Array:
            force = problem.grad(w, lane.w_star) + lane.beta * z
            return jnp.maximum(norm(w - u), norm(tangent(w, force) if normalize else force))

        def running(carry: tuple[Point, optax.OptState, Count]) -> Array:
            return (carry[-1] < max_steps) & (residual(*carry[0]) > tol)

        # The error of the w-step must stay well below the residual.
        first, step = (_exact if method == "admm" else _modified)(problem, penalty, lane, normalize, tol / 100)
        begin: tuple[Point, optax.OptState, Count] = (*first, 0)
        (w, u, z), _, steps = jax.lax.while_loop(running, lambda c: (*step(*c[:2]), c[2] + 1), begin)
        return _outcome(problem, lane, w, u, residual(w, u, z), steps, tol)

    return jax.vmap(rvsm if method == "rvsm" else admm)(lanes)


def w_step(
    problem: rv.OneLayerProblem,
    w_star: Array,
    centre: Array,
    beta: Array,
    last: Array,
    normalize: bool,
    tol: ArrayLike = 1e-12,
) -> Array:
    """Returns argmin_w f(w) + (β/2)‖w − centre‖², over the sphere if ``normalize``, by descent from ``last``.

    L-BFGS stops when the norm of the gradient is at most ``tol``. f depends on w only through ‖w‖ and the angle to w*,
    so the minimiser lies in the plane of w* and ``centre``, on the side of ``centre``. L-BFGS runs in that plane, from
    the point with the norm and angle of ``last``.
    """
    along = unit(w_star)
    across = unit(centre - jnp.sum(centre * along) * along)
    target = jnp.stack([jnp.sum(centre * along), jnp.sum(centre * across)])
    truth = jnp.stack([norm(w_star), jnp.zeros_like(target[0])])
    ahead = jnp.sum(last * along)
    start = jnp.stack([ahead, norm(last - ahead * along)])

    def value(v: Array) -> Array:
        point = unit(v) if normalize else v
        return problem.loss(point, truth) + beta / 2 * jnp.sum((point - target) ** 2)

    optimizer = optax.lbfgs(memory_size=4)
    value_and_grad = optax.value_and_grad_from_state(value)

    def step(carry: Search) -> Search:
        v, state, _, count = carry
        current, gradient = value_and_grad(v, state=state)
        updates, state = optimizer.update(gradient, state, v, value=current, grad=gradient, value_fn=value)
        return optax.apply_updates(v, updates), state, norm(gradient), count + 1

    carry: Search = (start, optimizer.init(start), jnp.full_like(start[0], jnp.inf), 0)
    v = jax.lax.while_loop(lambda c: (c[2] > tol) & (c[3] < INNER_STEPS), step, carry)[0]
    point = unit(v) if normalize else v
    return point[0] * along + point[1] * across


def _exact(problem: rv.OneLayerProblem, penalty: rv.Penalty, lane: Lanes[Array], normalize: bool, tol: float) -> Method:
    """Returns the initial ((w, u, z), None) and the step of I eq. 10, with z divided by β."""

    def step(point: Point, _: None) -> tuple[Point, None]:
        w, u, z = point
        w = w_step(problem, lane.w_star, u - z, lane.beta, w, normalize, tol)
        u = penalty.prox(w + z, lane.lam / lane.beta)
        return (w, u, z + w - u), None

    u = penalty.prox(lane.w0, lane.lam / lane.beta)
    return ((lane.w0, u, jnp.zeros_like(u)), None), step


def _modified(
    problem: rv.OneLayerProblem, penalty: rv.Penalty, lane: Lanes[Array], normalize: bool, _: float
) -> Method:
    """Returns the initial ((w, u, z), state of the chain) and the step of ADMM with a gradient step for w."""
    chain = _chain(rv.admm(penalty, rho=lane.beta, lam=lane.lam), lane.beta, normalize)

    def step(point: Point, state: optax.OptState) -> tuple[Point, optax.OptState]:
        w = point[0]
        updates, state = chain.update(problem.grad(w, lane.w_star), state, w)
        w = optax.apply_updates(w, updates)
        u, z = rv.sparse_params(state, w), state[0].z
        return (w, u, z + w - u), state

    state = chain.init(lane.w0)
    return ((lane.w0, state[0].u, state[0].z), state), step


def _chain(
    splitting: optax.GradientTransformation, beta: Array, normalize: bool
) -> optax.GradientTransformationExtraArgs:
    links = [splitting, optax.sgd(largest_learning_rate(beta))]
    return optax.chain(*links, rv.unit_sphere()) if normalize else optax.chain(*links)


def _outcome(
    problem: rv.OneLayerProblem, lane: Lanes[Array], w: Array, u: Array, residual: Array, steps: Count, tol: float
) -> Outcome:
    return Outcome(
        zeros=jnp.mean(u == 0),
        theta_w=rv.angle(w, lane.w_star),
        theta_u=rv.angle(u, lane.w_star),
        gap=norm(w - u),
        norm_u=norm(u),
        loss_u=problem.loss(u, lane.w_star),
        residual=residual,
        steps=steps,
        converged=residual <= tol,
        u=u,
    )
