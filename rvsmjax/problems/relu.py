"""Mean of k rectified linear units on non-overlapping patches."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax.geometry import angle, float_dtype, length_difference, norm, unit
from rvsmjax.problems.base import OneLayerProblem


@dataclasses.dataclass(frozen=True)
class NoOverlapReLU(OneLayerProblem):
    r"""L(x; w) = (1/k) Σ_i max(w·x[i], 0), with the squared loss f(w) = E (L(x; w) − L(x; w*))².

    With Δ = ‖w‖ − ‖w*‖ and θ the angle between w and w*,

    .. math:: f(w) = \frac{1 - 1/k}{2\pi}\Delta^2 + \frac{1}{2k}\|w - w^*\|^2
       - \frac{1}{k\pi}\|w\|\|w^*\|(\sin\theta - \theta\cos\theta),

    which is A eq. 8 rearranged to avoid cancellation; the gradient is that of A Lemma 5.4.2. Derivatives are finite at
    θ = 0, θ = π and w = 0; at w = 0 the gradient uses a zero direction w/‖w‖.

    Args:
      k: number of patches, a whole number >= 1.

    Raises:
      ValueError: if ``k`` is not a whole number >= 1; when called, if the last axes differ.

    Example:
      >>> problem = NoOverlapReLU(2)
      >>> float(problem.loss(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])))
      0.34084...
    """

    def largest_learning_rate(self, beta: ArrayLike) -> Array:
        """Returns 1/(β + L) of A Theorem 1 (i), with L = 1 + 3‖w*‖/M = 4 of A Lemma 5.1.2, as ‖w*‖ = M = 1."""
        return 1 / (jnp.asarray(beta) + 4)

    def pace(self, learning_rate: ArrayLike) -> ArrayLike:
        """Returns η/k: near a limit each step multiplies the distance by about 1 − η/(2k)."""
        return learning_rate / jnp.asarray(self.k)

    def distance_bound(self, beta: ArrayLike, gamma: ArrayLike) -> Array:
        """Returns 4kβ sin γ, the right side of A eq. 13."""
        return 4 * jnp.asarray(self.k) * beta * jnp.sin(gamma)

    def loss(self, w: ArrayLike, w_star: ArrayLike) -> Array:
        """Returns f(w), of shape (...)."""
        return _loss(*self._prepared(w, w_star)).astype(float_dtype(w, w_star))

    def grad(self, w: ArrayLike, w_star: ArrayLike) -> Array:
        """Returns ∇f(w), of shape (..., d)."""
        return _grad(*self._prepared(w, w_star)).astype(float_dtype(w, w_star))

    def coefficients(
        self, norm_w: Array, norm_star: Array, theta: Array, sine: Array | None = None
    ) -> tuple[Array, Array]:
        """Returns (p, c) with ∇f(w) = p·w/‖w‖ + c·w*."""
        share = (1 - 1 / self.k) / math.pi
        sine = jnp.sin(theta) if sine is None else sine
        p = norm_w / self.k + share * (norm_w - norm_star) - norm_star * sine / (self.k * math.pi)
        return p, (theta - math.pi) / (self.k * math.pi)

    def forward(self, w: ArrayLike, x: ArrayLike) -> Array:
        """Returns L(x; w), of shape (...), for patches ``x`` of shape (..., k, d) and w of shape (d,)."""
        w, x = self._patches(w, x)
        return jnp.mean(jax.nn.relu(jnp.einsum("...kd,d->...k", x, w)), -1)

    def sampled_loss(self, w: ArrayLike, w_star: ArrayLike, x: ArrayLike) -> Array:
        """Returns the mean of (L(x_j; w) − L(x_j; w*))² over a sample ``x`` of shape (m, k, d)."""
        return jnp.mean(jnp.square(self.forward(w, x) - self.forward(w_star, x)))

    def sampled_grad(self, w: ArrayLike, w_star: ArrayLike, x: ArrayLike) -> Array:
        """Returns the gradient of ``sampled_loss`` in w, of shape (d,)."""
        return jax.grad(self.sampled_loss)(jnp.asarray(w), w_star, x)


def _parts(w: Array, w_star: Array) -> tuple[Array, Array, Array]:
    """Returns Δ²/2, ‖w − w*‖²/2 and ‖w‖‖w*‖(sin θ − θ cos θ)."""
    theta, n, n_star = angle(w, w_star), norm(w), norm(w_star)
    apart = norm(w - w_star)
    return 0.5 * length_difference(w, w_star) ** 2, 0.5 * apart**2, n * n_star * _segment(theta)


@jax.custom_jvp
def _loss(k: Array, w: Array, w_star: Array) -> Array:
    lengths, apart, segment = _parts(w, w_star)
    return (1 - 1 / k) / math.pi * lengths + apart / k - segment / (k * math.pi)


@_loss.defjvp
def _loss_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    (k, w, w_star), (dk, dw, dw_star) = primals, tangents
    lengths, apart, segment = _parts(w, w_star)
    slope_k = (lengths / math.pi - apart + segment / math.pi) / k**2
    # f is symmetric in w and w*.
    change = jnp.sum(_grad(k, w, w_star) * dw, -1) + jnp.sum(_grad(k, w_star, w) * dw_star, -1)
    return _loss(k, w, w_star), change + slope_k * dk


def _grad(k: Array, w: Array, w_star: Array) -> Array:
    """Returns ∇f(w). Differences of nearby vectors or norms are formed before scaling."""
    theta = angle(w, w_star)[..., None]
    direction, direction_star = unit(w), unit(w_star)
    radial = (1 - 1 / k)[..., None] / math.pi * length_difference(w, w_star)[..., None] * direction
    turn = theta * (direction_star - direction) + (theta - jnp.sin(theta)) * direction
    k = k[..., None]
    return (w - w_star) / k + radial + norm(w_star)[..., None] / (k * math.pi) * turn


def _segment(theta: Array) -> Array:
    """Returns sin θ − θ cos θ; for θ < 1 by the series θ³/3 − θ⁵/30 + …, each term from the previous one."""
    small = jnp.minimum(theta, 1)
    term = small**3 / 3
    series = term
    for n in range(1, 8):
        term = -term * small**2 * (n + 1) / (n * (2 * n + 2) * (2 * n + 3))
        series = series + term
    return jnp.where(theta < 1, series, jnp.sin(theta) - theta * jnp.cos(theta))
