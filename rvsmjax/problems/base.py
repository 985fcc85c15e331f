"""What a one-layer problem is: a loss and a gradient, over the population and on a sample."""

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
    """Learning w* in R^d from the output of one layer on k patches that do not overlap, x[i] ~ N(0, I_d).

    ``k`` is a leaf of the pytree: it may be traced, and a new value does not recompile. Vectors have shape (..., d) and
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
        """Returns (p, c) with grad = p·w/‖w‖ + c·w*: all that the gradient needs of two vectors is their geometry.

        Args:
          norm_w: ‖w‖.
          norm_star: ‖w*‖.
          theta: angle between them.
          sine: of ``theta``, where it is known.
        """

    @abc.abstractmethod
    def sampled_loss(self, w: ArrayLike, w_star: ArrayLike, x: ArrayLike) -> Array:
        """Returns the loss on a sample ``x`` of shape (m, k, d), a scalar."""

    @abc.abstractmethod
    def sampled_grad(self, w: ArrayLike, w_star: ArrayLike, x: ArrayLike) -> Array:
        """Returns the (coarse) gradient on a sample ``x`` of shape (m, k, d), of shape (d,)."""

    @abc.abstractmethod
    def largest_learning_rate(self, beta: ArrayLike) -> Array:
        """Returns the largest η that this problem's theorem allows for every run on the sphere, where ‖w*‖ = 1."""

    @abc.abstractmethod
    def distance_bound(self, beta: ArrayLike, gamma: ArrayLike) -> Array:
        """Returns the theorem's bound on ‖w̄ − w*‖ at a limit on the sphere, γ the angle between w̄ and ū."""

    def pace(self, learning_rate: ArrayLike) -> ArrayLike:
        """Returns a number that grows with the speed of convergence near a limit; sweeps run slow lanes first by it.

        It changes no result. The default is the learning rate itself.
        """
        return learning_rate

    def pull(self, w: ArrayLike, w_star: ArrayLike) -> Array:
        """Returns the length of the gradient's part that is orthogonal to w, of shape (...)."""
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
    """Returns ‖∇f(w) + force‖, of shape (...), on the sphere (``normalize``) of its tangential part alone.

    Formed as a vector: the two parts cancel at a limit, their squares would take all digits with them. Tangential parts
    are taken of w* − w, which is small there, rather than of w*.
    """
    if not normalize:
        return norm(problem.grad(w, w_star) + force)
    _, c = problem.coefficients(norm(w), norm(w_star), angle(w, w_star))
    return norm(tangent(w, c[..., None] * (jnp.asarray(w_star) - w) + force))
