"""The one-layer problem interface: loss and gradient, over the population and on a sample."""

from __future__ import annotations

import abc
import dataclasses

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._pytree import Module
from rvsmjax.geometry import angle, norm, tangent, working_dtype


@dataclasses.dataclass(frozen=True)
class OneLayerProblem(Module, abc.ABC):
    """Learning w* in R^d from the output of one layer on k non-overlapping patches, x[i] ~ N(0, I_d).

    ``k`` is a pytree leaf: it may be traced, and a new value does not recompile. Vectors have shape (..., d) and
    broadcast; losses have shape (...).
    """

    k: ArrayLike

    def __post_init__(self) -> None:
        _checks.integer("k", self.k, at_least=1)

    @abc.abstractmethod
    def loss(self, w: ArrayLike, w_star: ArrayLike) -> Array:
        """Returns the population loss, of shape (...)."""

    @abc.abstractmethod
    def grad(self, w: ArrayLike, w_star: ArrayLike) -> Array:
        """Returns the (coarse) gradient of the population loss in w, of shape (..., d)."""

    @abc.abstractmethod
    def coefficients(
        self, norm_w: Array, norm_star: Array, theta: Array, sine: Array | None = None
    ) -> tuple[Array, Array]:
        """Returns (p, c) with grad = p·w/‖w‖ + c·w*, from the norms and the angle of the two vectors.

        Args:
          norm_w: ‖w‖.
          norm_star: ‖w*‖.
          theta: angle between w and w*, radians.
          sine: sin(theta), if already computed.
        """

    @abc.abstractmethod
    def sampled_loss(self, w: ArrayLike, w_star: ArrayLike, x: ArrayLike) -> Array:
        """Returns the loss on a sample ``x`` of shape (m, k, d), a scalar."""

    @abc.abstractmethod
    def sampled_grad(self, w: ArrayLike, w_star: ArrayLike, x: ArrayLike) -> Array:
        """Returns the (coarse) gradient on a sample ``x`` of shape (m, k, d), of shape (d,)."""

    @abc.abstractmethod
    def largest_learning_rate(self, beta: ArrayLike) -> Array:
        """Returns the largest η that the problem's theorem allows for every run on the sphere, with ‖w*‖ = 1."""

    @abc.abstractmethod
    def distance_bound(self, beta: ArrayLike, gamma: ArrayLike) -> Array:
        """Returns the theorem's bound on ‖w̄ − w*‖ at a limit on the sphere; γ is the angle between w̄ and ū."""

    def pace(self, learning_rate: ArrayLike) -> ArrayLike:
        """Returns a number that increases with the rate of convergence near a limit. Defaults to the learning rate.

        Sweeps run slow lanes first, by this number. It affects only the order of lanes, not their results.
        """
        return learning_rate

    def pull(self, w: ArrayLike, w_star: ArrayLike) -> Array:
        """Returns the norm of the gradient's component orthogonal to w, of shape (...)."""
        theta = angle(w, w_star)
        _, c = self.coefficients(norm(w), norm(w_star), theta)
        return jnp.abs(c) * norm(w_star) * jnp.sin(theta)

    def _prepared(self, w: ArrayLike, w_star: ArrayLike) -> tuple[Array, Array, Array]:
        """Returns k, w and w* in the working precision."""
        w, w_star = jnp.asarray(w), jnp.asarray(w_star)
        _checks.last_axis(w=w, w_star=w_star)
        dtype = working_dtype(w, w_star)
        return jnp.asarray(self.k, dtype), w.astype(dtype), w_star.astype(dtype)

    def _patches(self, w: ArrayLike, x: ArrayLike) -> tuple[Array, Array]:
        w, x = jnp.asarray(w), jnp.asarray(x)
        _checks.last_axis(w=w, x=x)
        k = _checks.known(self.k)
        if w.ndim != 1:
            raise ValueError(f"w must be one vector (use vmap for more), got shape {w.shape}")
        if x.ndim < 2 or (k is not None and k.ndim == 0 and x.shape[-2] != int(k)):
            raise ValueError(f"x must have shape (..., k, d) with k = {self.k}, got {x.shape}")
        return w, x


def splitting_residual(
    problem: OneLayerProblem, w: ArrayLike, w_star: ArrayLike, force: ArrayLike, normalize: bool
) -> Array:
    """Returns ‖∇f(w) + force‖, of shape (...); on the sphere (``normalize``) the norm of the tangential part.

    The sum is formed as a vector, because its two terms cancel at a limit; a difference of norms would lose all digits.
    The tangential part of ∇f is computed from w* − w, which is small at a limit, instead of w*.
    """
    if not normalize:
        return norm(problem.grad(w, w_star) + force)
    _, c = problem.coefficients(norm(w), norm(w_star), angle(w, w_star))
    return norm(tangent(w, c[..., None] * (jnp.asarray(w_star) - w) + force))
