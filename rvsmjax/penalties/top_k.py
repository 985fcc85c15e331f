"""The set of s-sparse vectors and the projection on it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax.geometry import working_dtype
from rvsmjax.penalties.base import Penalty


@dataclasses.dataclass(frozen=True)
class TopK(Penalty):
    """P(x) = 0 if x has at most k nonzero components, else ∞; prox keeps the k largest in magnitude.

    The count is exact: of equal magnitudes at the boundary, those with the lowest index stay. ``step`` has no effect.
    No sort: the k-th largest magnitude is found by bisection over its bits, so k may be traced.

    Args:
      sparsity: share of components set to 0, in [0, 1); of n components, round(sparsity·n) become 0.
      k: number of components kept, >= 0. Exactly one of the two is given.

    Raises:
      TypeError: none or both are given.
      ValueError: ``sparsity`` outside [0, 1), ``k`` no whole number >= 0.

    Source: A section 3.2, H_s.

    Example:
      >>> TopK(k=1).prox(jnp.array([1.0, -3.0, 2.0]), 1.0).tolist()
      [0.0, -3.0, 0.0]
    """

    sparsity: ArrayLike | None = None
    k: ArrayLike | None = None
    name: ClassVar[str] = "topk"
    separable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if (self.sparsity is None) == (self.k is None):
            raise TypeError(f"TopK takes exactly one of sparsity and k, got sparsity={self.sparsity!r}, k={self.k!r}")
        if self.sparsity is not None:
            _checks.fraction("sparsity", self.sparsity)
        else:
            _checks.integer("k", self.k, at_least=0)

    def kept(self, size: int) -> Array | int:
        """Returns how many of ``size`` components stay; at most ``size``."""
        if self.k is not None:
            return jnp.minimum(self.k, size)
        if isinstance(self.sparsity, (int, float)):
            return size - round(self.sparsity * size)
        return size - jnp.round(jnp.asarray(self.sparsity) * size).astype(jnp.int32)

    def value(self, x: ArrayLike) -> Array:
        """Returns 0 inside the set and ∞ outside."""
        x = jnp.asarray(x)
        return jnp.where(jnp.sum(x != 0) <= self.kept(x.size), 0, jnp.inf).astype(working_dtype(x))

    def prox(self, v: ArrayLike, step: ArrayLike = 0.0) -> Array:
        """Returns ``v`` with all but its k largest magnitudes set to 0."""
        v = jnp.asarray(v)
        return jnp.where(largest(jnp.abs(v), self.kept(v.size)), v, 0)

    def threshold(self, step: ArrayLike) -> Array:
        """Raises: what is kept depends on the whole vector, not on a fixed threshold."""
        raise NotImplementedError("TopK has no fixed threshold; call prox")


def largest(magnitude: Array, k: ArrayLike) -> Array:
    """Returns a mask of the k largest entries of ``magnitude`` >= 0; ties go to the lowest flat index."""
    unsigned = jnp.dtype(f"uint{8 * magnitude.dtype.itemsize}")
    # The bits of non-negative floats, read as integers, have the same order.
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(magnitude), unsigned).ravel()
    k = jnp.asarray(k, jnp.int32)

    def refine(i: Array, edge: Array) -> Array:
        trial = edge | (unsigned.type(1) << (unsigned.type(unsigned.itemsize * 8 - 2) - i.astype(unsigned)))
        return jnp.where(jnp.sum(bits >= trial) >= k, trial, edge)

    edge = jax.lax.fori_loop(0, unsigned.itemsize * 8 - 1, refine, jnp.zeros((), unsigned))
    tied = bits == edge
    above = bits > edge
    keep = above | (tied & (jnp.cumsum(tied) <= k - jnp.sum(above)))
    return keep.reshape(magnitude.shape)
