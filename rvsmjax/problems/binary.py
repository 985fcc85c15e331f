"""Sum of k binary units on non-overlapping patches, with its coarse gradient."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax.geometry import angle, chord, float_dtype, norm, quotient, reciprocal, tangent, unit
from rvsmjax.problems.base import OneLayerProblem

STE_SCALE = math.sqrt(2 / math.pi)
"""The factor in F eq. 8."""


@dataclasses.dataclass(frozen=True)
class NoOverlapBinary(OneLayerProblem):
    r"""h(x; w) = Σ_i 1{w·x[i] > 0}, with the loss f(w) = ½ E (h(x; w) − h(x; w*))² and a coarse gradient.

    With θ the angle between w and w*, a hat for a normalized vector, and s the scale of the straight-through estimator,
    which replaces the derivative of 1{z > 0} by s·1{z > 0},

    .. math:: f(w) = \frac{k\theta}{2\pi}, \qquad E[g] = \frac{c}{2}(\hat w - \hat w^*), \qquad
       c = \frac{s k}{\sqrt{2\pi}}.

    ``grad`` is E[g], F eq. 15 simplified: ‖ŵ + ŵ*‖ is 2cos(θ/2) for vectors of any length, so F eq. 18 holds for every
    w. The default s, from F eq. 8, gives c = k/π. It is the largest s for which every step along −E[g] that brings w
    closer to w* satisfies the descent inequality F eq. 17. ``true_grad`` is the gradient of f. Both are independent of
    ‖w‖ and ‖w*‖, except for a factor 1/‖w‖ in ``true_grad``. A zero vector has direction 0 and angle π/2.

    Args:
      k: number of patches, a whole number >= 1.
      ste_scale: s > 0.

    Raises:
      ValueError: if ``k`` is not a whole number >= 1 or ``ste_scale`` is not > 0; when called, if the last axes differ.

    Source: F sections 3.1 and 5.1. Deviations: f has the ½ of F eq. 5 (F eq. 2 omits it, so f is twice as large there);
    in F eq. 7 and 8 the residual is the scalar Σ_i 1{w·x[i] > 0} − Σ_i 1{w*·x[i] > 0}; F eq. 14 lacks a division by
    sin θ.

    Example:
      >>> problem, w, w_star = NoOverlapBinary(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
      >>> float(problem.loss(w, w_star)), problem.grad(w, w_star).tolist()
      (0.5, [0.31830..., -0.31830...])
    """

    ste_scale: ArrayLike = STE_SCALE

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.positive("ste_scale", self.ste_scale)

    @property
    def c(self) -> Array:
        """Norm of the coarse gradient at θ = π, s·k/√(2π)."""
        return jnp.asarray(self.ste_scale * jnp.asarray(self.k) / math.sqrt(2 * math.pi))

    def loss(self, w: ArrayLike, w_star: ArrayLike) -> Array:
        """Returns f(w), of shape (...)."""
        k, wide, wide_star = self._prepared(w, w_star)
        return (k / (2 * math.pi) * angle(wide, wide_star)).astype(float_dtype(w, w_star))

    def grad(self, w: ArrayLike, w_star: ArrayLike) -> Array:
        """Returns the expected coarse gradient E[g], of shape (..., d)."""
        _, wide, wide_star = self._prepared(w, w_star)
        half = jnp.asarray(self.c / 2, wide.dtype)[..., None]
        return (half * chord(wide, wide_star)).astype(float_dtype(w, w_star))

    def true_grad(self, w: ArrayLike, w_star: ArrayLike) -> Array:
        """Returns ∇f(w) = −k/(2π‖w‖)·τ, of shape (..., d); τ is the unit tangent at w towards w*.

        Set to 0 at θ = 0 and θ = π, where it has no limit, and at w = 0.
        """
        k, wide, wide_star = self._prepared(w, w_star)
        obtuse = jnp.sum(unit(wide) * unit(wide_star), -1, keepdims=True) < 0
        # Chord from the nearer of w and −w, so it is short wherever the tangent is.
        short = jnp.where(obtuse, chord(wide_star, -wide), chord(wide_star, wide))
        towards = tangent(wide, short)
        # If the tangent is rounding error, w and w* are parallel.
        resolved = norm(towards)[..., None] > 8 * jnp.finfo(wide.dtype).eps * norm(short)[..., None]
        slope = -k[..., None] / (2 * math.pi) * quotient(unit(towards), norm(wide)[..., None])
        return jnp.where(resolved, slope, 0).astype(float_dtype(w, w_star))

    def coefficients(
        self, norm_w: Array, norm_star: Array, theta: Array, sine: Array | None = None
    ) -> tuple[Array, Array]:
        """Returns (p, c) with E[g] = p·w/‖w‖ + c·w*; constant, except that c depends on ‖w*‖."""
        half = self.c / 2 * jnp.ones_like(theta)
        return half, -half * reciprocal(jnp.asarray(norm_star))

    def forward(self, w: ArrayLike, x: ArrayLike) -> Array:
        """Returns h(x; w), of shape (...), for patches ``x`` of shape (..., k, d) and w of shape (d,)."""
        w, x = self._patches(w, x)
        return jnp.sum(jnp.einsum("...kd,d->...k", x, w) > 0, -1, dtype=float_dtype(w, x))

    def sampled_loss(self, w: ArrayLike, w_star: ArrayLike, x: ArrayLike) -> Array:
        """Returns the mean of ½(h(x_j; w) − h(x_j; w*))² over a sample ``x`` of shape (m, k, d)."""
        return jnp.mean(jnp.square(self.forward(w, x) - self.forward(w_star, x))) / 2

    def sampled_grad(self, w: ArrayLike, w_star: ArrayLike, x: ArrayLike) -> Array:
        """Returns the mean of s·(h(x_j; w) − h(x_j; w*))·Σ_i 1{w·x_j[i] > 0}·x_j[i], of shape (d,)."""
        w, x = self._patches(w, x)
        off = self.forward(w, x) - self.forward(w_star, x)
        active = (jnp.einsum("...kd,d->...k", x, w) > 0).astype(off.dtype)
        steps = jnp.einsum("...,...k,...kd->d", off, active, x) / off.size
        return jnp.asarray(self.ste_scale * steps, off.dtype)

    def largest_learning_rate(self, beta: ArrayLike) -> Array:
        """Returns min{1/(β + L), 2√(2π)/k} of F Theorem 1 (iii), with L = c/2.

        c/2 is the Lipschitz constant of E[g] on the sphere (F eq. 19), and the L of F eq. 17 for steps towards w* and
        s <= √(2/π); F's L = k/(4π) belongs to eq. 17 without its ½. For s = 1, which the theorem's constants assume,
        the second bound is 2/c. The theorem's other condition on η bounds the length of every step and depends on the
        run.
        """
        return jnp.minimum(1 / (jnp.asarray(beta) + self.c / 2), 2 * math.sqrt(2 * math.pi) / jnp.asarray(self.k))

    def pace(self, learning_rate: ArrayLike) -> ArrayLike:
        """Returns ηk: the loss is k times as steep as for one unit."""
        return jnp.asarray(self.k) * learning_rate

    def distance_bound(self, beta: ArrayLike, gamma: ArrayLike) -> Array:
        """Returns 4β sin γ/c. F eq. 13 prints it for s = 1: 4√(2π)β sin γ/k."""
        return 4 * jnp.asarray(beta) * jnp.sin(gamma) / self.c
