"""The set of s-sparse vectors and the projection on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._exact import two_product
from rvsmjax.geometry import working_dtype
from rvsmjax.penalties.base import Penalty

SCOPES = ("leaf", "global")

SAMPLE = 8192
"""Entries that are sorted to start the search for the k-th largest."""


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

    sparsity: Any = None
    k: Any = None
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
        (mask,) = largest([jnp.abs(v)], self.kept(v.size))
        return jnp.where(mask, v, 0)

    def prox_leaves(self, leaves: Sequence[Array], step: ArrayLike = 0.0) -> list[Array]:
        """Returns the leaves, in global scope with all but the k largest magnitudes of them together set to 0."""
        if self.scope == "leaf":
            return super().prox_leaves(leaves, step)
        dtype = working_dtype(*leaves)
        masks = largest([jnp.abs(leaf).astype(dtype) for leaf in leaves], self.kept(sum(leaf.size for leaf in leaves)))
        return [jnp.where(mask, leaf, 0) for mask, leaf in zip(masks, leaves, strict=True)]

    def shrinkage_leaves(self, leaves: Sequence[Array], step: ArrayLike = 0.0) -> list[Array]:
        """Returns what ``prox_leaves`` sets to 0."""
        return [leaf - kept for leaf, kept in zip(leaves, self.prox_leaves(leaves, step), strict=True)]

    def threshold(self, step: ArrayLike) -> Array:
        """Raises: what is kept depends on the whole vector, not on a fixed threshold."""
        raise NotImplementedError("TopK has no fixed threshold; call prox")


def largest(magnitudes: Sequence[Array], k: ArrayLike) -> list[Array]:
    """Returns masks of the k largest entries of arrays >= 0 together; ties go to the first, in order of flat index.

    The k-th largest is searched for between two bounds, of which at least k and fewer than k entries are not smaller:
    from a sorted sample first, then by interpolating between the two counts, with a bisection now and then that bounds
    the number of passes. A pass counts the entries above a trial.
    """
    unsigned = jnp.dtype(f"uint{8 * magnitudes[0].dtype.itemsize}")
    # The bits of non-negative floats, read as integers, have the same order.
    bits = [jax.lax.bitcast_convert_type(jax.lax.stop_gradient(m), unsigned).ravel() for m in magnitudes]
    size = sum(b.size for b in bits)
    k = jnp.minimum(jnp.asarray(k, jnp.int32), size)

    def count(edge: Array, beyond: bool = False) -> Array:
        holds = [b > edge if beyond else b >= edge for b in bits]
        return jnp.sum(jnp.asarray([jnp.sum(h, dtype=jnp.int32) for h in holds]), dtype=jnp.int32)

    trials = _sampled(bits, k, size)

    def closer(carry: Any) -> Any:
        i, low, high, above_low, above_high = carry
        width = (high - low).astype(jnp.float32)
        share = (above_low - k + 0.5) / jnp.maximum(above_low - above_high, 1)
        # Widths above 2²⁴ are rounded here: what is lost is small against the step, and the bounds are kept below.
        inner = low + (width * jnp.clip(jnp.where(i % 3 == 1, 0.5, share), 0, 1)).astype(unsigned)
        trial = jnp.where(i < len(trials), trials[jnp.minimum(i, len(trials) - 1)], inner)
        trial = jnp.clip(trial, low + unsigned.type(1), high - unsigned.type(1))
        found = count(trial)
        enough = found >= k
        return (
            i + 1,
            jnp.where(enough, trial, low),
            jnp.where(enough, high, trial),
            jnp.where(enough, found, above_low),
            jnp.where(enough, above_high, found),
        )

    def open_still(carry: Any) -> Array:
        _, low, high, above_low, _ = carry
        return (high - low > 1) & (above_low > k)

    top = jnp.asarray(unsigned.type(1 << (8 * unsigned.itemsize - 1)))
    zero = jnp.zeros((), unsigned)
    start = (jnp.zeros((), jnp.int32), zero, top, jnp.asarray(size, jnp.int32), jnp.zeros((), jnp.int32))
    _, edge, _, _, _ = jax.lax.while_loop(open_still, closer, start)
    edge = jnp.where(k > 0, edge, top)

    def all_tied() -> list[Array]:
        return [b >= edge for b in bits]

    def first_tied() -> list[Array]:
        masks, room = [], k - count(edge, beyond=True)
        for b in bits:
            tied = b == edge
            masks.append((b > edge) | (tied & (jnp.cumsum(tied, dtype=jnp.int32) <= room)))
            room = room - jnp.sum(tied, dtype=jnp.int32)
        return masks

    # Counting along an array is slow, and needed only where more entries tie than there is room for.
    masks = jax.lax.cond(count(edge) <= k, all_tied, first_tied)
    return [mask.reshape(m.shape) for mask, m in zip(masks, magnitudes, strict=True)]


def _sampled(bits: Sequence[Array], k: Array, size: int) -> Array:
    """Returns two trials that the k-th largest most likely lies between, from a sorted sample."""
    stride = max(1, size // SAMPLE)
    drawn = jnp.sort(jnp.concatenate([b[::stride] for b in bits]))
    place = len(drawn) * (1 - k / size)
    spread = 3 * jnp.sqrt(place * (1 - place / len(drawn))) + 1
    ends = jnp.clip(jnp.stack([place - spread, place + spread]), 0, len(drawn) - 1)
    return drawn[ends.astype(jnp.int32)]
