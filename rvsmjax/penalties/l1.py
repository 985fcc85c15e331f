"""The l1 norm and soft thresholding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax.geometry import float_dtype
from rvsmjax.penalties.base import Penalty


@dataclasses.dataclass(frozen=True)
class L1(Penalty):
    """P(x) = Σ|x_i|; prox is soft thresholding, sgn(v)·max(|v| − step, 0); the threshold is ``step``.

    Source: A eq. 10 to 12.

    Example:
      >>> L1().prox(jnp.array([-2.0, 0.5, 3.0]), 1.0).tolist()
      [-1.0, 0.0, 2.0]
    """

    name: ClassVar[str] = "l1"
    fixes_zero: ClassVar[bool] = True

    def value(self, x: ArrayLike) -> Array:
        """Returns Σ|x_i|."""
        return jnp.sum(jnp.abs(x))

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns ``v`` moved towards 0 by ``step``."""
        v, delta = jnp.asarray(v), self.shrinkage(v, step)
        # v − delta may be rounding error instead of 0: in a fused multiply-add, if v is a product.
        return jnp.where(jnp.abs(v) <= step, 0, v - delta)

    def shrinkage(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns ``v`` clipped to [−step, step]."""
        _checks.nonnegative("step", step)
        v = jnp.asarray(v)
        v = v.astype(float_dtype(v))
        step = jnp.asarray(step, v.dtype)
        return jnp.clip(v, -step, step)

    def shrinker(self, step: Array) -> Callable[[Array], Array]:
        """Returns v ↦ shrinkage(v, step) as two selects, one instruction each; a clip checks for NaN too."""

        def shrink(v: Array) -> Array:
            v = jnp.where(v > step, step, v)
            return jnp.where(v < -step, -step, v)

        return shrink

    def threshold(self, step: ArrayLike) -> Array:
        """Returns ``step``."""
        _checks.nonnegative("step", step)
        return jnp.asarray(step, float_dtype(step))
