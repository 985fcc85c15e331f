"""The number of nonzero components and hard thresholding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._exact import two_product
from rvsmjax.geometry import working_dtype
from rvsmjax.penalties.base import Penalty


@dataclasses.dataclass(frozen=True)
class L0(Penalty):
    """P(x) = number of x_i ≠ 0; prox keeps v_i where |v_i| > √(2·step) and sets the rest to 0.

    Source: A section 5.3 (A Lemma 5.2.2 prints the threshold as ``step``, which is not the minimizer).

    Example:
      >>> L0().prox(jnp.array([-2.0, 0.5, 3.0]), 1.0).tolist()
      [-2.0, 0.0, 3.0]
    """

    name: ClassVar[str] = "l0"
    fixes_zero: ClassVar[bool] = True

    def value(self, x: ArrayLike) -> Array:
        """Returns the number of nonzero components."""
        x = jnp.asarray(x)
        return jnp.sum(x != 0, dtype=working_dtype(x))

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns ``v`` with the components at or below the threshold set to 0."""
        v = jnp.asarray(v)
        return jnp.where(self._kept(v, step), v, 0)

    def shrinkage(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns ``v`` with the components that prox keeps set to 0."""
        v = jnp.asarray(v)
        return jnp.where(self._kept(v, step), 0, v)

    def shrinker(self, step: Array) -> Callable[[Array], Array]:
        """Returns v ↦ shrinkage(v, step); the threshold is computed once, and rounded to the nearest float."""
        threshold = _root(step)
        return lambda v: jnp.where(jnp.abs(v) > threshold, 0, v)

    def threshold(self, step: ArrayLike) -> Array:
        """Returns √(2·step), rounded down: a float exceeds it exactly if its square exceeds 2·step."""
        _checks.nonnegative("step", step)
        step = jnp.asarray(step)
        step = step.astype(working_dtype(step))
        t, twice = _root(step), jax.lax.stop_gradient(2 * step)
        near = jax.lax.stop_gradient(t)
        square, low = two_product(near, near)
        above = (square - twice) + low > 0
        return t + jnp.where(above & (t > 0), jnp.nextafter(near, jnp.zeros_like(near)) - near, 0)

    def _kept(self, v: Array, step: ArrayLike) -> Array:
        return jnp.abs(v) > self.threshold(step)


def _root(step: Array) -> Array:
    """Returns √(2·step), with the derivative 0 at 0."""
    positive = step > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, 2 * step, 1)), 0)
