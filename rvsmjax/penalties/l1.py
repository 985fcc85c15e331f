"""The l1 norm and soft thresholding."""

from __future__ import annotations

import dataclasses
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

    def value(self, x: ArrayLike) -> Array:
        """Returns the sum of magnitudes."""
        return jnp.sum(jnp.abs(x))

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns ``v`` moved towards 0 by ``step``."""
        return jnp.asarray(v) - self.shrinkage(v, step)

    def shrinkage(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns ``v`` clipped to [−step, step]."""
        _checks.nonnegative("step", step)
        v = jnp.asarray(v)
        v = v.astype(float_dtype(v))
        step = jnp.asarray(step, v.dtype)
        return jnp.clip(v, -step, step)

    def threshold(self, step: ArrayLike) -> Array:
        """Returns ``step``."""
        _checks.nonnegative("step", step)
        return jnp.asarray(step, float_dtype(step))
