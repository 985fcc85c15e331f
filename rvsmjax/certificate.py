"""Quantities that the theorems bound at a limit point (w, u)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax.geometry import angle, norm, unit
from rvsmjax.penalties import Penalty, moreau_envelope
from rvsmjax.problems import NoOverlapReLU, OneLayerProblem


def largest_learning_rate(beta: ArrayLike, problem: OneLayerProblem | None = None) -> Array:
    """Returns the largest η that the theorem for ``problem`` allows on the sphere.

    ``problem=None`` means the ReLU problem: 1/(β + 4).

    Source: A Theorem 1 (i); F Theorem 1 (iii).

    Example:
      >>> import rvsmjax as rv
      >>> float(largest_learning_rate(0.0)), float(largest_learning_rate(0.0, rv.NoOverlapBinary(20)))
      (0.25, 0.25066...)
    """
    return (NoOverlapReLU(1) if problem is None else problem).largest_learning_rate(beta)


def lagrangian(
    problem: OneLayerProblem, penalty: Penalty, lam: ArrayLike, beta: ArrayLike, w: Array, w_star: Array
) -> Array:
    """Returns f(w) + λP(u) + (β/2)‖w − u‖² at u = prox_{(λ/β)P}(w): f plus β times the Moreau envelope.

    Source: A eq. 11.
    """
    return problem.loss(w, w_star) + beta * moreau_envelope(penalty, w, lam / beta)


class Certificate(NamedTuple):
    """Errors, losses and theorem margins of a limit point (w, u). All scalars.

    Attributes:
      theta_w: angle between w and w*, radians.
      f_w: population loss at w.
      theta_u: angle between u and w*; π/2 where u = 0.
      f_u: population loss at u.
      f_u_unit: population loss at u/‖u‖, and at 0 where u = 0.
      zeros: number of zero components of u.
      gamma: angle between w and u; π/2 where u = 0.
      dist_w: ‖w − w*‖.
      residual: |‖P∇f(w)‖ − β‖u‖ sin γ|, P the projection on the tangent space at w: 0 at a limit (A eq. 17, F eq. 22).
      slack_13: b − ‖w − w*‖ with b = ``problem.distance_bound``, the margin of bound (13): b = 4kβ sin γ in A,
        4β sin γ/c for the binary activation in F.
      slack_14: b + (λ/β)√d − ‖u − w*‖, the margin of bound (14), which A states for l1. F has no (14); it follows from
        F's (13) in the same way.
      lagrangian: f(w) + λP(u) + (β/2)‖w − u‖².
    """

    theta_w: Array
    f_w: Array
    theta_u: Array
    f_u: Array
    f_u_unit: Array
    zeros: Array
    gamma: Array
    dist_w: Array
    residual: Array
    slack_13: Array
    slack_14: Array
    lagrangian: Array


def certificate(
    problem: OneLayerProblem,
    penalty: Penalty,
    lam: ArrayLike,
    beta: ArrayLike,
    w: ArrayLike,
    w_star: ArrayLike,
) -> Certificate:
    """Returns the certificate of w, with u = prox_{(λ/β)P}(w), for vectors of shape (d,).

    Example:
      >>> import rvsmjax as rv
      >>> w = jnp.array([0.6, 0.8])
      >>> c = certificate(rv.NoOverlapReLU(2), rv.L1(), 1e-4, 4e-3, w, w)
      >>> float(c.theta_w), int(c.zeros)
      (0.0, 0)
    """
    w, w_star = jnp.asarray(w), jnp.asarray(w_star)
    step = lam / beta
    u, envelope = penalty.prox(w, step), moreau_envelope(penalty, w, step)
    return certificate_at(problem, lam, beta, w.shape[-1], w, w_star, u, envelope)


def certificate_at(
    problem: OneLayerProblem,
    lam: ArrayLike,
    beta: ArrayLike,
    d: ArrayLike,
    w: Array,
    w_star: Array,
    u: Array,
    envelope: Array,
) -> Certificate:
    """Returns the certificate of w, given u and the penalty's Moreau envelope at w. Independent of the penalty class.

    Vectors may be zero-padded beyond ``d`` components; the padding is not counted.
    """
    beta = jnp.asarray(beta)
    # Stacked, so each norm, angle and loss is one computation that XLA compiles once.
    left, right = jnp.stack([w, w, u, unit(u)]), jnp.stack([u, w_star, w_star, w_star])
    (norm_w, _, norm_u, _), (_, norm_star, _, _) = norm(left), norm(right)
    gamma, theta_w, theta_u, _ = angle(left, right)
    _, f_w, f_u, f_u_unit = problem.loss(left, right)
    _, dist_w, dist_u, _ = norm(left - right)
    _, c = problem.coefficients(norm_w, norm_star, theta_w)
    pull = jnp.abs(c) * norm_star * jnp.sin(theta_w)
    bound = problem.distance_bound(beta, gamma)
    return Certificate(
        theta_w=theta_w,
        f_w=f_w,
        theta_u=theta_u,
        f_u=f_u,
        f_u_unit=f_u_unit,
        zeros=jnp.sum(u == 0, -1) - (u.shape[-1] - d),
        gamma=gamma,
        dist_w=dist_w,
        residual=jnp.abs(pull - beta * norm_u * jnp.sin(gamma)),
        slack_13=bound - dist_w,
        slack_14=bound + lam / beta * jnp.sqrt(jnp.asarray(d, w.dtype)) - dist_u,
        lagrangian=f_w + beta * envelope,
    )
