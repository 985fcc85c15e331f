"""The set of k-sparse vectors and the projection onto it."""

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

    The count is exact: ties at the boundary go to the lowest index. ``step`` has no effect. The k-th largest magnitude
    comes from a counting search instead of a sort, so k may be traced.

    Args:
      sparsity: fraction of components set to 0, in [0, 1); round(sparsity·n) of n components become 0. In a
        transformation also a schedule, a function of the step count.
      k: number of components kept, >= 0. Pass exactly one of ``sparsity`` and ``k``.
      scope: whether the count applies to each leaf (``"leaf"``) or to all leaves together (``"global"``).

    Raises:
      TypeError: if neither or both of ``sparsity`` and ``k`` are given.
      ValueError: if ``sparsity`` is outside [0, 1), ``k`` is not a whole number >= 0, or ``scope`` is unknown.

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

    @property
    def is_constraint(self) -> bool:
        """True."""
        return True

    def kept(self, size: int) -> Array | int:
        """Returns the number of components kept out of ``size``."""
        if self.k is not None:
            return jnp.minimum(self.k, size)
        if isinstance(self.sparsity, (int, float)):
            return size - round(self.sparsity * size)
        # Round the exact product: beyond 2²³ a float32 product cannot represent halves.
        share = jnp.asarray(self.sparsity)
        head, tail = two_product(share, jnp.asarray(size, share.dtype))
        # ``size`` may not be exact in this dtype: add the product of the remainder.
        whole = jnp.round(head)
        tail = tail + share * (size - int(jnp.finfo(share.dtype).dtype.type(size)))
        return size - (whole.astype(jnp.int32) + jnp.round((head - whole) + tail).astype(jnp.int32))

    def value(self, x: ArrayLike) -> Array:
        """Returns 0 inside the set and ∞ outside."""
        x = jnp.asarray(x)
        return jnp.where(jnp.sum(x != 0) <= self.kept(x.size), 0, jnp.inf).astype(working_dtype(x))

    def prox(self, v: ArrayLike, step: ArrayLike = 0.0) -> Array:
        """Returns ``v`` with all but the k largest magnitudes set to 0."""
        v = jnp.asarray(v)
        (mask,) = largest([v], self.kept(v.size))
        return jnp.where(mask, v, 0)

    def prox_leaves(self, leaves: Sequence[Array], step: ArrayLike = 0.0) -> list[Array]:
        """Returns the leaves with all but the k largest magnitudes set to 0, per leaf or over all, see ``scope``."""
        return [jnp.where(mask, leaf, 0) for mask, leaf in zip(self.masks(leaves), leaves, strict=True)]

    def masks(self, leaves: Sequence[Array]) -> list[Array]:
        """Returns masks of the k largest magnitudes, per leaf or over all, see ``scope``."""
        if self.scope == "leaf":
            return largest(leaves, jnp.asarray([self.kept(leaf.size) for leaf in leaves], jnp.int32)) if leaves else []
        return largest(leaves, self.kept(sum(leaf.size for leaf in leaves)))

    def shrinkage_leaves(self, leaves: Sequence[Array], step: ArrayLike = 0.0) -> list[Array]:
        """Returns the leaves minus ``prox_leaves``: the components set to 0."""
        return [leaf - kept for leaf, kept in zip(leaves, self.prox_leaves(leaves, step), strict=True)]
