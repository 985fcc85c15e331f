"""States to which claims apply: numbers, points, paths of iterates, limits."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import angle, norm, unit
from rvsmjax.penalties import moreau_envelope
from rvsmjax.problems import OneLayerProblem

from ...one_layer.hard import keep_largest
from .claim import Parameters


class Scalar(NamedTuple):
    """A number v to threshold, and an arbitrary competitor of prox(v)."""

    v: Array
    competitor: Array


class Points(NamedTuple):
    """Two points of R^d, as (d,) vectors."""

    first: Array
    second: Array


class Path(NamedTuple):
    """Iterates of a method, t = 0, …, T.

    Attributes:
      w: w^t, of shape (T + 1, d).
      u: prox(w^t), the papers' u^{t+1}, of shape (T + 1, d); w for methods without a splitting.
      theta: angles between w^t and w*, of shape (T + 1,).
      loss: f(w^t), of shape (T + 1,).
      low: L(u^{t+1}, w^t), after the step in u, of shape (T + 1,).
      high: L(u^t, w^t), t = 1, …, T, after the step in w, of shape (T,).
      move: ‖η∇f(w^t) + ηβ(w^t − u^{t+1})‖, of shape (T,).
      length: ‖ŵ^{t+1}‖ before normalisation, of shape (T,).
      cut: mask of steps with hard thresholding, of shape (T,).
    """

    w: Array
    u: Array
    theta: Array
    loss: Array
    low: Array
    high: Array
    move: Array
    length: Array
    cut: Array


class Limit(NamedTuple):
    """A limit point of a method.

    Attributes:
      start: w⁰, of shape (d,).
      w: limit point, of shape (d,).
      u: prox(w).
      residual: see ``problems.splitting_residual``.
    """

    start: Array
    w: Array
    u: Array
    residual: Array


class Three(NamedTuple):
    """Limits of one problem with three penalties."""

    l1: Limit
    l0: Limit
    tl1: Limit


State = Scalar | Points | Path | Limit | Three


def lagrangian_of(problem: OneLayerProblem, p: Parameters, w: Array, u: Array) -> Array:
    """Returns f(w) + λP(u) + (β/2)‖w − u‖² (A eq. 11)."""
    return problem.loss(w, p.w_star) + p.lam * p.penalty.value(u) + p.beta / 2 * jnp.sum(jnp.square(w - u))


def follow(
    problem: OneLayerProblem, p: Parameters, start: Array, steps: int, *, normalize: bool, late: bool = False
) -> Path:
    """Returns the path of RVSM, ŵ = w − η∇f(w) − ηβ(w − u), as the papers state the algorithm.

    Args:
      problem: f, with its gradient or coarse gradient.
      p: the lane.
      start: w⁰.
      steps: T.
      normalize: whether w is normalised after each step (A and F, not I).
      late: whether u lags by one step, as printed in I Algorithm 1.
    """

    def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        w, old = carry
        fresh = p.penalty.shrinkage(w, p.lam / p.beta)
        gap = w - old if late else fresh
        move = p.learning_rate * (problem.grad(w, p.w_star) + p.beta * gap)
        new = w - move
        scaled = unit(new) if normalize else new
        return (scaled, w - fresh), (scaled, norm(move), norm(new))

    first = p.penalty.prox(start, p.lam / p.beta)
    _, (rest, move, length) = jax.lax.scan(step, (start, first), length=steps)
    w = jnp.concatenate([start[None], rest])
    u = p.penalty.prox(w, p.lam / p.beta)
    loss = problem.loss(w, p.w_star)
    low = loss + p.beta * jax.vmap(lambda w: moreau_envelope(p.penalty, w, p.lam / p.beta))(w)
    high = jax.vmap(lambda w, u: lagrangian_of(problem, p, w, u))(w[1:], u[:-1])
    return Path(w, u, angle(w, p.w_star), loss, low, high, move, length, jnp.zeros(steps, bool))


def hard_step(problem: OneLayerProblem, p: Parameters, w: Array) -> tuple[Array, Array, Array]:
    """Returns the next iterate of A Algorithm 2, the iterate before thresholding, and whether thresholding acted."""
    new = w - p.learning_rate * problem.grad(w, p.w_star)
    kept = keep_largest(new, p.s)
    cut = jnp.any((kept != 0) != (keep_largest(w, p.s) != 0))
    return jnp.where(cut, kept, new), new, cut


def follow_hard(problem: OneLayerProblem, p: Parameters, start: Array, steps: int) -> Path:
    """Returns the path of adaptive hard thresholding (A Algorithm 2)."""

    def step(w: Array, _: None) -> tuple[Array, tuple[Array, ...]]:
        result, new, cut = hard_step(problem, p, w)
        return result, (result, norm(new - w), norm(new), cut)

    _, (rest, move, length, cut) = jax.lax.scan(step, start, length=steps)
    w = jnp.concatenate([start[None], rest])
    loss = problem.loss(w, p.w_star)
    return Path(w, w, angle(w, p.w_star), loss, loss, loss[1:], move, length, cut)
