"""Penalty selected by a number (l1, l0 or tl1), so lanes with different penalties share a program."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax.penalties import L0, L1, Penalty, TransformedL1

KINDS = ("l1", "l0", "tl1")


@dataclasses.dataclass(frozen=True)
class Chosen(Penalty):
    """The penalty ``KINDS[kind]``.

    Args:
      kind: 0, 1 or 2; may be traced.
      a: shape of transformed l1, > 0.
    """

    kind: ArrayLike = 0
    a: ArrayLike = 1.0
    name: ClassVar[str] = "chosen"

    def value(self, x: ArrayLike) -> Array:
        """Returns P(x)."""
        return self._pick(*(penalty.value(x) for penalty in self._all))

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns the proximal operator of the selected penalty."""
        return jnp.asarray(v) - self.shrinkage(v, step)

    def shrinkage(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns v − prox(v, step)."""
        return self._pick(*(penalty.shrinkage(v, step) for penalty in self._all))

    def threshold(self, step: ArrayLike) -> Array:
        """Returns the threshold of the selected penalty."""
        return self._pick(*(penalty.threshold(step) for penalty in self._all))

    @property
    def _all(self) -> tuple[Penalty, ...]:
        return L1(), L0(), TransformedL1(self.a)

    def _pick(self, first: Array, second: Array, third: Array) -> Array:
        kind = jnp.asarray(self.kind)
        return jnp.where(kind == 0, first, jnp.where(kind == 1, second, third))
