"""N:M sparsity: n nonzeros in every m consecutive components, the pattern of sparse matrix hardware."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._sharding import automatic
from rvsmjax.geometry import working_dtype
from rvsmjax.penalties.base import Penalty


@dataclasses.dataclass(frozen=True)
class NM(Penalty):
    """P(x) = 0 if each block of m consecutive components has at most n nonzeros, else ∞; prox keeps the n largest.

    Blocks run along ``axis``. The default is the second to last: the input axis of Flax kernels, which a matrix product
    contracts. For a vector ``axis`` is ignored. Ties go to the lowest index. ``step`` has no effect.

    Args:
      n: components kept in each block, 1 <= n <= m.
      m: block length.
      axis: axis along which blocks run; its length must be a multiple of m.

    Raises:
      TypeError: if axis is not a whole number.
      ValueError: if n or m is out of range; when applied, if the axis length is not a multiple of m.

    Example:
      >>> NM(2, 4).prox(jnp.array([1.0, -3.0, 2.0, 0.5, 1.0, 1.0, 1.0, 1.0]), 0.0).tolist()
      [0.0, -3.0, 2.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    """

    n: int = dataclasses.field(default=2, metadata={"static": True})
    m: int = dataclasses.field(default=4, metadata={"static": True})
    axis: int = dataclasses.field(default=-2, metadata={"static": True})
    name: ClassVar[str] = "nm"
    separable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("n", "m"):
            object.__setattr__(self, name, _checks.count(name, getattr(self, name)))
        if not isinstance(self.axis, int | np.integer):
            raise TypeError(f"axis must be a whole number, got {_checks.show(self.axis)}")
        if self.n > self.m:
            raise ValueError(f"n must be at most m = {self.m}, got {self.n}")

    @property
    def is_constraint(self) -> bool:
        """True."""
        return True

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ``ValueError`` unless blocks of m fit along the axis."""
        axis = self._axis(len(shape))
        if not shape or not -len(shape) <= axis < len(shape) or shape[axis] % self.m:
            rule = f"axis {self.axis} must have a length that is a multiple of m = {self.m}"
            raise ValueError(f"{rule}, got shape {shape}")

    def value(self, x: ArrayLike) -> Array:
        """Returns 0 inside the set and ∞ outside."""
        x = jnp.asarray(x)
        return jnp.where(jnp.any(self.overfull(x)), jnp.inf, 0).astype(working_dtype(x))

    def overfull(self, x: ArrayLike) -> Array:
        """Returns a mask of the blocks of ``x`` with more than n nonzero components; the block axis comes last."""
        return jnp.sum(self._blocks(jnp.asarray(x)) != 0, -1) > self.n

    def prox(self, v: ArrayLike, step: ArrayLike = 0.0) -> Array:
        """Returns ``v`` with all but the n largest magnitudes of each block set to 0."""
        v = jnp.asarray(v)
        return jnp.where(self.masks([v])[0], v, 0)

    def masks(self, leaves: Sequence[Array]) -> list[Array]:
        """Returns masks of the n largest magnitudes of each block."""
        return automatic(lambda arrays: [self._mask(v) for v in arrays], leaves)

    def _mask(self, v: Array) -> Array:
        size = jax.lax.stop_gradient(jnp.abs(self._blocks(v)))
        keep = jnp.zeros(size.shape, bool)
        # One argmax at a time. Comparing pairs is unsafe: XLA may compute ``size`` twice and round it differently.
        for _ in range(self.n):
            best = jnp.argmax(jnp.where(keep, -1, size), -1, keepdims=True)
            keep |= jnp.arange(self.m) == best
        axis = self._axis(v.ndim)
        moved = keep.reshape(*keep.shape[:-2], v.shape[axis])
        return jnp.moveaxis(moved, -1, axis)

    def _axis(self, ndim: int) -> int:
        return self.axis if ndim > 1 else -1

    def _blocks(self, v: Array) -> Array:
        self.check_shape(v.shape)
        moved = jnp.moveaxis(v, self._axis(v.ndim), -1)
        return moved.reshape(*moved.shape[:-1], moved.shape[-1] // self.m, self.m)
