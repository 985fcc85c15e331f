"""The capped l1 penalty."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._double import Double, add, single
from rvsmjax._exact import two_sum
from rvsmjax.penalties.concave._folded import Folded, Rule, mean_root, mean_root_slopes


def _edge(step: Array, theta: Array) -> Double:
    soft = step <= 2 * theta
    t, low = mean_root(step, single(2 * theta))
    return jnp.where(soft, step, t), jnp.where(soft, 0, low)


def _is_soft(v: Array, step: Array, theta: Array) -> Array:
    """Returns where v − step, of value s·v − s²/2, is as good as v, of value s·θ."""
    return (step <= 2 * theta) & (add(two_sum(2 * v, -2 * theta), single(-step))[0] <= 0)


def _beyond(v: Array, step: Array, theta: Array) -> tuple[Array, Array]:
    soft = _is_soft(v, step, theta)
    return jnp.where(soft, v - step, v), jnp.where(soft, step, 0)


def _slopes(v: Array, x: Array, step: Array, theta: Array) -> tuple[Array, Array, Array]:
    soft = _is_soft(v, step, theta)
    return jnp.ones_like(v), jnp.where(soft, -1.0, 0.0).astype(v.dtype), jnp.zeros_like(v)


def _edge_slopes(step: Array, theta: Array) -> tuple[Array, Array]:
    soft = step <= 2 * theta
    in_step, in_twice = mean_root_slopes(step, 2 * theta)
    return jnp.where(soft, 1, in_step), jnp.where(soft, 0, 2 * in_twice)


@dataclasses.dataclass(frozen=True)
class CappedL1(Folded):
    r"""P(x) = Σ min(|x_i|, θ).

    With s = ``step``, prox is

    - for s <= 2θ: 0 up to t = s, |v| − s up to θ + s/2, and v beyond, with a jump;
    - for s > 2θ: 0 up to t = √(2sθ), and v beyond.

    Args:
      theta: the cap θ, finite and > 0; in a transformation also a schedule, a function of the step count.

    Raises:
      ValueError: if ``theta`` is not finite or not positive.

    Source: T. Zhang, JMLR 2010 (the penalty); prox by comparing the minimizers |v| − s and v of the two pieces.

    Example:
      >>> CappedL1(2.0).prox(jnp.array([0.5, 1.5, -3.0]), 1.0).tolist()
      [0.0, 0.5, -3.0]
    """

    theta: ArrayLike = 1.0
    name: ClassVar[str] = "capped_l1"
    rule: ClassVar[Rule] = Rule(_edge, _beyond, _slopes, _edge_slopes)

    def __post_init__(self) -> None:
        _checks.positive("theta", self.theta, schedule=True)

    def value(self, x: ArrayLike) -> Array:
        """Returns Σ min(|x_i|, θ)."""
        return jnp.sum(jnp.minimum(jnp.abs(x), self.theta))
