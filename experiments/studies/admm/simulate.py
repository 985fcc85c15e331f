"""RVSM and ADMM on one-layer ReLU problems, a tile of lanes at a time, each run until it rests or is given up.

Both split min f(w) + λP(w), on the sphere if w is normalised, with the same weight β (ADMM's ρ) on ‖w − u‖². RVSM and
modified ADMM are the library's chains; the exact w-step minimises f(w) + (β/2)‖w − u + z‖², over the sphere if w is
normalised, by optax's L-BFGS.
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
"""Most L-BFGS steps in one w-step."""


class Lanes(NamedTuple, Generic[Numbers]):
    """Random problems with their starts and weights; arrays with the lanes in front."""

    w_star: Numbers
    w0: Numbers
    lam: Numbers
    beta: Numbers


Count = Array | int
Point = tuple[Array, Array, Array]
"""w, u and z."""
Search = tuple[Array, optax.OptState, Array, Count]
"""A point, the state of L-BFGS, the slope's norm and the steps."""
Method = tuple[tuple[Point, optax.OptState], Callable[[Point, optax.OptState], tuple[Point, optax.OptState]]]
"""Where it starts, with a state of its own, and its step."""


class Outcome(NamedTuple):
    """Where lanes ended.

    Attributes:
      zeros: share of zeros in u.
      theta_w: angle between w and w*.
      theta_u: angle between u and w*, π/2 where u = 0.
      gap: ‖w − u‖.
      norm_u: ‖u‖.
      loss_u: f(u).
      residual: what was compared with the tolerance.
      steps: steps taken.
      converged: whether the residual came under the tolerance.
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
    """Returns where the lanes of a tile end.

    RVSM rests where ∇f(w) + β(w − u) is under ``tol`` (``rv.solve``), ADMM where both ‖w − u‖ and ∇f(w) + βz are; of a
    gradient only the part along the sphere counts if w is normalised. The learning rate is 1/(β + 4).
    """
    problem = rv.NoOverlapReLU(k)

    def rvsm(lane: Lanes[Array]) -> Outcome:
        chain = _chain(rv.rvsm(penalty, lane.lam, lane.beta), lane.beta, normalize)
        end = rv.solve(problem, chain, lane.w0, lane.w_star, tol=tol, max_steps=max_steps)
        return _measured(problem, lane, end.w, end.u, end.residual, end.steps, tol)

    def admm(lane: Lanes[Array]) -> Outcome:
        def residual(w: Array, u: Array, z: Array) -> Array:
            force = problem.grad(w, lane.w_star) + lane.beta * z
            return jnp.maximum(norm(w - u), norm(tangent(w, force) if normalize else force))

        def go_on(carry: tuple[Point, optax.OptState, Count]) -> Array:
            return (carry[-1] < max_steps) & (residual(*carry[0]) > tol)

        # The error of a w-step must not hide the residual.
        first, step = (_exact if method == "admm" else _modified)(problem, penalty, lane, normalize, tol / 100)
        begin: tuple[Point, optax.OptState, Count] = (*first, 0)
        (w, u, z), _, steps = jax.lax.while_loop(go_on, lambda c: (*step(*c[:2]), c[2] + 1), begin)
        return _measured(problem, lane, w, u, residual(w, u, z), steps, tol)

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
    """Returns argmin_w f(w) + (β/2)‖w − centre‖², over the sphere if ``normalize``, downhill from ``last``.

    The gradient there is under ``tol``.

    f knows of w its norm and its angle to w* alone, so the minimiser lies in the plane of w* and ``centre``, on the
    side of ``centre``: L-BFGS searches there, from the point of the plane that has the norm and the angle of ``last``.
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
        height, slope = value_and_grad(v, state=state)
        updates, state = optimizer.update(slope, state, v, value=height, grad=slope, value_fn=value)
        return optax.apply_updates(v, updates), state, norm(slope), count + 1

    carry: Search = (start, optimizer.init(start), jnp.full_like(start[0], jnp.inf), 0)
    v = jax.lax.while_loop(lambda c: (c[2] > tol) & (c[3] < INNER_STEPS), step, carry)[0]
    point = unit(v) if normalize else v
    return point[0] * along + point[1] * across


def _exact(problem: rv.OneLayerProblem, penalty: rv.Penalty, lane: Lanes[Array], normalize: bool, tol: float) -> Method:
    """Returns the start ((w, u, z), no state) of I eq. 10, z scaled by β, and its step."""

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
    """Returns the start ((w, u, z), the chain's state) of ADMM with a gradient step for w, and its step."""
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


def _measured(
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
