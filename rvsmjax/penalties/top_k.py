"""The set of s-sparse vectors and the projection on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._exact import two_product
from rvsmjax.geometry import working_dtype
from rvsmjax.penalties._largest import largest
from rvsmjax.penalties.base import Penalty
from rvsmjax.schedules import Schedule

SCOPES = ("leaf", "global")


@dataclasses.dataclass(frozen=True)
class TopK(Penalty):
    """P(x) = 0 if x has at most k nonzero components, else ∞; prox keeps the k largest in magnitude.

    The count is exact: of equal magnitudes at the boundary, those with the lowest index stay. ``step`` has no effect.
    The k-th largest magnitude is found by counting, without sorting the array, so k may be traced.

    Args:
      sparsity: share of components set to 0, in [0, 1); of n components, round(sparsity·n) become 0. Inside a
        transformation also a schedule, a function of the step count.
      k: number of components kept, >= 0. Exactly one of the two is given.
      scope: over many arrays, whether each keeps its own largest (``"leaf"``) or all together (``"global"``).

    Raises:
      TypeError: none or both of ``sparsity`` and ``k`` are given.
      ValueError: ``sparsity`` outside [0, 1), ``k`` no whole number >= 0, an unknown scope.

    Source: A section 3.2, H_s.

    Example:
      >>> TopK(k=1).prox(jnp.array([1.0, -3.0, 2.0]), 1.0).tolist()
      [0.0, -3.0, 0.0]
    """

    sparsity: ArrayLike | Schedule | None = None
    k: ArrayLike | None = None
    scope: str = dataclasses.field(default="leaf", metadata={"static": True})
    name: ClassVar[str] = "topk"
    separable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if (self.sparsity is None) == (self.k is None):
            raise TypeError(f"TopK takes exactly one of sparsity and k, got sparsity={self.sparsity!r}, k={self.k!r}")
        if self.sparsity is not None:
            _checks.fraction("sparsity", self.sparsity, schedule=True)
        else:
            _checks.integer("k", self.k, at_least=0)
        if self.scope not in SCOPES:
            raise ValueError(f"scope must be one of {', '.join(SCOPES)}, got {self.scope!r}")

    def kept(self, size: int) -> Array | int:
        """Returns how many of ``size`` components stay; at most ``size``."""
        if self.k is not None:
            return jnp.minimum(self.k, size)
        if isinstance(self.sparsity, (int, float)):
            return size - round(self.sparsity * size)
        # The exact product, rounded: a rounded product has no halves beyond 2²³.
        share = jnp.asarray(self.sparsity)
        head, tail = two_product(share, jnp.asarray(size, share.dtype))
        # ``size`` itself may not fit in the dtype: what it loses is added by hand.
        whole = jnp.round(head)
        tail = tail + share * (size - int(jnp.finfo(share.dtype).dtype.type(size)))
        return size - (whole.astype(jnp.int32) + jnp.round((head - whole) + tail).astype(jnp.int32))

    def value(self, x: ArrayLike) -> Array:
        """Returns 0 inside the set and ∞ outside."""
        x = jnp.asarray(x)
        return jnp.where(jnp.sum(x != 0) <= self.kept(x.size), 0, jnp.inf).astype(working_dtype(x))

    def prox(self, v: ArrayLike, step: ArrayLike = 0.0) -> Array:
        """Returns ``v`` with all but its k largest magnitudes set to 0."""
        v = jnp.asarray(v)
        (mask,) = largest([v], self.kept(v.size))
        return jnp.where(mask, v, 0)

    def prox_leaves(self, leaves: Sequence[Array], step: ArrayLike = 0.0) -> list[Array]:
        """Returns the leaves, in global scope with all but the k largest magnitudes of them together set to 0."""
        if self.scope == "leaf":
            return super().prox_leaves(leaves, step)
        masks = largest(leaves, self.kept(sum(leaf.size for leaf in leaves)))
        return [jnp.where(mask, leaf, 0) for mask, leaf in zip(masks, leaves, strict=True)]

    def shrinkage_leaves(self, leaves: Sequence[Array], step: ArrayLike = 0.0) -> list[Array]:
        """Returns what ``prox_leaves`` sets to 0."""
        return [leaf - kept for leaf, kept in zip(leaves, self.prox_leaves(leaves, step), strict=True)]
