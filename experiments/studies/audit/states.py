"""The states that claims speak of: numbers and points, paths of iterates, limits."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rvsmjax.geometry import angle, norm, unit
from rvsmjax.penalties import moreau_envelope
from rvsmjax.problems import OneLayerProblem

from ..one_layer.hard import keep_largest
from .claim import Parameters


class Scalar(NamedTuple):
    """A number to be thresholded, and any rival of the answer."""

    v: Array
    rival: Array


class Points(NamedTuple):
    """Two points of R^d, as (d,) vectors."""

    first: Array
    second: Array


class Path(NamedTuple):
    """Iterates of a method, t = 0, …, T.

    Attributes:
      w: w^t, of shape (T + 1, d).
      u: prox(w^t), the papers' u^{t+1}, of shape (T + 1, d); w itself where nothing is split.
      theta: angles with w*, of shape (T + 1,).
      loss: f(w^t), of shape (T + 1,).
      low: L(u^{t+1}, w^t), of shape (T + 1,): after the step in u.
      high: L(u^t, w^t), of shape (T,), t = 1, …, T: after the step in w.
      move: ‖η∇f(w^t) + ηβ(w^t − u^{t+1})‖, of shape (T,).
      length: ‖ŵ^{t+1}‖ before it is scaled, of shape (T,).
      cut: whether hard thresholding acted, of shape (T,).
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
    """A point where a method has come to rest.

    Attributes:
      start: w⁰, of shape (d,).
      w: limit point, of shape (d,).
      u: prox(w).
      residual: how far from rest it still is, see ``problems.splitting_residual``.
    """

    start: Array
    w: Array
    u: Array
    residual: Array


class Three(NamedTuple):
    """The limits of one problem under three penalties."""

    l1: Limit
    l0: Limit
    tl1: Limit


State = Scalar | Points | Path | Limit | Three


def lagrangian_of(problem: OneLayerProblem, p: Parameters, w: Array, u: Array) -> Array:
    """Returns f(w) + λP(u) + (β/2)‖w − u‖² for any u: A eq. 11."""
    return problem.loss(w, p.w_star) + p.lam * p.penalty.value(u) + p.beta / 2 * jnp.sum(jnp.square(w - u))


def follow(
    problem: OneLayerProblem, p: Parameters, start: Array, steps: int, *, normalize: bool, late: bool = False
) -> Path:
    """Returns the path of RVSM, ŵ = w − η∇f(w) − ηβ(w − u), by the papers' own algorithm, one ``scan``.

    Args:
      problem: f, or the coarse gradient in its place.
      p: the lane.
      start: w⁰.
      steps: T.
      normalize: whether w goes back to the sphere after each step (A and F; I does not).
      late: whether u is one step old, as I Algorithm 1 prints it.
    """

    def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        w, old = carry
        fresh = p.penalty.shrinkage(w, p.lam / p.beta)
        gap = w - old if late else fresh
        move = p.learning_rate * (problem.grad(w, p.w_star) + p.beta * gap)
        new = w - move
        out = unit(new) if normalize else new
        return (out, w - fresh), (out, norm(move), norm(new))

    first = p.penalty.prox(start, p.lam / p.beta)
    _, (rest, move, length) = jax.lax.scan(step, (start, first), length=steps)
    w = jnp.concatenate([start[None], rest])
    u = p.penalty.prox(w, p.lam / p.beta)
    loss = problem.loss(w, p.w_star)
    low = loss + p.beta * jax.vmap(lambda w: moreau_envelope(p.penalty, w, p.lam / p.beta))(w)
    high = jax.vmap(lambda w, u: lagrangian_of(problem, p, w, u))(w[1:], u[:-1])
    return Path(w, u, angle(w, p.w_star), loss, low, high, move, length, jnp.zeros(steps, bool))


def hard_step(problem: OneLayerProblem, p: Parameters, w: Array) -> tuple[Array, Array, Array]:
    """Returns the next iterate of A Algorithm 2, what it was before thresholding, and whether that acted."""
    new = w - p.learning_rate * problem.grad(w, p.w_star)
    kept = keep_largest(new, p.s)
    cut = jnp.any((kept != 0) != (keep_largest(w, p.s) != 0))
    return jnp.where(cut, kept, new), new, cut


def follow_hard(problem: OneLayerProblem, p: Parameters, start: Array, steps: int) -> Path:
    """Returns the path of Adaptive Hard Thresholding (A Algorithm 2)."""

    def step(w: Array, _: None) -> tuple[Array, tuple[Array, ...]]:
        out, new, cut = hard_step(problem, p, w)
        return out, (out, norm(new - w), norm(new), cut)

    _, (rest, move, length, cut) = jax.lax.scan(step, start, length=steps)
    w = jnp.concatenate([start[None], rest])
    loss = problem.loss(w, p.w_star)
    return Path(w, w, angle(w, p.w_star), loss, loss, loss[1:], move, length, cut)
