"""Penalties in a diagonal metric M > 0: argmin_x ½ (x − v)ᵀM(x − v) + step·P(x).

Two families have closed forms, and no other penalty is accepted:

- Penalties that keep or remove: ℓ0, top-k, N:M and their groups. Keeping x_i = v_i costs the penalty alone, removing it
  ½M_i v_i². So |v_i|√M_i takes the place of |v_i|, and the norm of v√M that of v in groups; what is kept is unchanged.
- Separable penalties. Component i, divided by M_i, is the problem without a metric at step/M_i. The same holds for a
  group in which M is constant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from rvsmjax._sharding import varying
from rvsmjax.geometry import float_dtype, working_dtype
from rvsmjax.penalties._arranged import Arranged, ArrangedGroups
from rvsmjax.penalties.base import Penalty
from rvsmjax.penalties.grouped import Grouped
from rvsmjax.penalties.l0 import L0
from rvsmjax.penalties.l1 import L1
from rvsmjax.penalties.n_of_m import NM
from rvsmjax.penalties.top_k import TopK
from rvsmjax.penalties.transformed_l1 import TransformedL1


def weighted(penalty: Penalty, metric: Sequence[Array | None]) -> Penalty:
    """Returns ``penalty`` in a metric; ``penalty`` itself if no leaf has one.

    Args:
      penalty: a penalty, with the axes of its leaves declared.
      metric: the diagonal of M for each leaf to come, of the leaf's rank and broadcastable to it; None is the identity.
    """
    metric = tuple(metric)
    return penalty if all(m is None for m in metric) else Weighted(penalty, metric)


@dataclasses.dataclass(frozen=True)
class Weighted(Penalty):
    """A penalty in a metric; made for one call, never part of a state.

    Args:
      penalty: the penalty.
      metric: the diagonal of M for each leaf, see ``weighted``.

    Raises:
      TypeError: when applied, if the prox has no closed form: the penalty compares components, M varies within a group
        of a penalty that shrinks, or a prox takes no step of its own for each component.
    """

    penalty: Penalty
    metric: tuple[Array | None, ...]
    separable: ClassVar[bool] = False

    @property
    def is_constraint(self) -> bool:
        """Whether the penalty is one."""
        return self.penalty.is_constraint

    def value(self, x: ArrayLike) -> Array:
        """Returns P(x), which no metric changes."""
        return self.penalty.value(x)

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns the prox of a single leaf."""
        return self.prox_leaves([jnp.asarray(v)], step)[0]

    def shrinkage(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns the shrinkage of a single leaf."""
        return self.shrinkage_leaves([jnp.asarray(v)], step)[0]

    def prox_leaves(self, leaves: Sequence[Array], step: ArrayLike) -> list[Array]:
        """Returns argmin_x ½ (x − v)ᵀM(x − v) + step·P(x) of several leaves."""
        if _removes(self.penalty):
            masks = _kept(self.penalty, self._scores(leaves), step)
            return [self._only(leaf, mask) for leaf, mask in zip(leaves, masks, strict=True)]
        return [one.prox_leaves([leaf], own)[0] for one, leaf, own in self._alone(leaves, step)]

    def shrinkage_leaves(self, leaves: Sequence[Array], step: ArrayLike) -> list[Array]:
        """Returns the leaves minus their prox."""
        if _removes(self.penalty):
            masks = _kept(self.penalty, self._scores(leaves), step)
            return [self._only(leaf, ~mask) for leaf, mask in zip(leaves, masks, strict=True)]
        return [one.shrinkage_leaves([leaf], own)[0] for one, leaf, own in self._alone(leaves, step)]

    def threshold(self, step: ArrayLike) -> Array:
        """Returns the number that ``magnitudes`` are compared with: of the penalty, or ``step`` if it is separable."""
        return self.penalty.threshold(step) if _removes(self.penalty) else jnp.asarray(step)

    def magnitudes(self, leaves: Sequence[Array]) -> list[Array]:
        """Returns |v|√M or norms of v√M; for a separable penalty the step from which on a component is zero."""
        if _removes(self.penalty):
            return self.penalty.magnitudes(self._scores(leaves))
        inner = _inner(self.penalty)
        sizes = [one.magnitudes([leaf])[0] for one, leaf, _ in self._alone(leaves, 1.0)]
        steps = [size if isinstance(inner, L1) else step_at(inner, size) for size in sizes]
        return [s if m is None else s * m for s, m in zip(steps, self.metric, strict=True)]

    def _scores(self, leaves: Sequence[Array]) -> list[Array]:
        """Returns |v|√M for each leaf, without a derivative."""

        def score(leaf: Array, m: Array | None) -> Array:
            size = jnp.abs(jax.lax.stop_gradient(leaf))
            if m is None:
                return size
            # Ranks are found by comparing a score with itself: XLA must not compute it twice and round it differently.
            product = size.astype(working_dtype(size)) * jnp.sqrt(jax.lax.stop_gradient(m))
            return jax.lax.optimization_barrier(product)

        return [score(leaf, m) for leaf, m in zip(leaves, self.metric, strict=True)]

    def _only(self, leaf: Array, mask: Array) -> Array:
        if isinstance(self.penalty, Grouped):  # as without a metric, to the sign of a zero
            return (leaf * mask.astype(working_dtype(leaf))).astype(float_dtype(leaf))
        return jnp.where(mask, leaf, 0)

    def _alone(self, leaves: Sequence[Array], step: ArrayLike) -> list[tuple[Penalty, Array, ArrayLike]]:
        """Returns, for each leaf, the penalty for it alone, the leaf, and step/M."""
        parts: list[tuple[Penalty, Array, ArrayLike]] = []
        for index, (leaf, m) in enumerate(zip(leaves, self.metric, strict=True)):
            one = self.penalty
            if isinstance(one, ArrangedGroups):
                one = dataclasses.replace(one, of=one.of[index : index + 1])
            _require_closed_form(one, leaf, m)
            parts.append((one, leaf, step if m is None else step / m))
        return parts


def _removes(penalty: Penalty) -> bool:
    """Returns whether prox keeps or removes components or groups, and changes nothing else."""
    if isinstance(penalty, (Arranged, Grouped)):
        return _removes(penalty.penalty)
    return type(penalty) in (L0, TopK, NM)


def _kept(penalty: Penalty, scores: Sequence[Array], step: ArrayLike) -> list[Array]:
    """Returns masks of what prox keeps, by scores in place of magnitudes; the groups' masks broadcast."""
    if isinstance(penalty, Grouped):
        return _kept(penalty.penalty, penalty.magnitudes(scores), step)
    if isinstance(penalty, Arranged):
        return penalty.like(_kept, scores, step)
    if isinstance(penalty, (TopK, NM)):
        return penalty.masks(scores)
    threshold = penalty.threshold(step)
    return [score > threshold for score in scores]


def _inner(penalty: Penalty) -> Penalty:
    return penalty.penalty if isinstance(penalty, Grouped) else penalty


def _require_closed_form(penalty: Penalty, leaf: Array, m: Array | None) -> None:
    """Raises ``TypeError`` unless the prox at step/M is that in the metric."""
    inner = _inner(penalty)
    if not inner.separable or type(inner).prox_leaves is not Penalty.prox_leaves:
        raise TypeError(f"metric must be None for a penalty that compares components, got one with {penalty!r}")
    if m is None:
        return
    if isinstance(penalty, Grouped):
        (leaf,) = penalty.magnitudes([leaf])
        if np.broadcast_shapes(m.shape, leaf.shape) != leaf.shape:
            rule = f"metric must be constant in each group for {type(inner).__name__}, of length 1 along its axes"
            raise TypeError(f"{rule}, got shape {m.shape} for groups of shape {leaf.shape}")
    if type(inner) in (L1, TransformedL1):
        return
    try:
        shape = jax.eval_shape(inner.prox, leaf, m).shape
    except Exception as error:
        raise TypeError(
            f"metric must be None for a prox that takes no array of steps, got one with {inner!r}"
        ) from error
    if shape != leaf.shape:
        raise TypeError(f"metric must be None for a prox that takes no array of steps, got one with {inner!r}")


@jax.jit
def step_at(penalty: Penalty, threshold: Array) -> Array:
    """Returns the smallest step whose threshold is at least the given one, 0 for 0, for each component.

    By bisection over the bit patterns of floats, which sort like the floats.
    """
    dtype = working_dtype(threshold)
    unsigned = jnp.dtype(f"uint{8 * dtype.itemsize}")

    def number(bits: Array) -> Array:
        return jax.lax.bitcast_convert_type(bits, dtype)

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        reached = penalty.threshold(number(middle)) >= threshold
        return jnp.where(reached, low, middle), jnp.where(reached, middle, high)

    largest = jax.lax.bitcast_convert_type(jnp.asarray(jnp.finfo(dtype).max, dtype), unsigned)
    ends = jnp.zeros_like(threshold, unsigned), jnp.full_like(threshold, largest, unsigned)
    _, high = jax.lax.fori_loop(0, 8 * dtype.itemsize - 1, halve, varying(ends, [threshold]))
    return jnp.where(threshold > 0, number(high), 0)
