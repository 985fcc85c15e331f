"""The smoothly clipped absolute deviation."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._double import Double, add, divide, multiply, negative, single
from rvsmjax._exact import two_sum
from rvsmjax.penalties.concave._folded import Folded, Rule, mean_root, mean_root_slopes


def _edge(step: Array, gamma: Array) -> Double:
    ones = two_sum(gamma, jnp.ones_like(gamma))
    soft = add(ones, single(-step))[0] >= 0
    t, low = mean_root(step, ones)
    return jnp.where(soft, step, t), jnp.where(soft, 0, low)


def _room(step: Array, gamma: Array) -> Double:
    """Returns γ − 1 − step, 1 where it is not positive."""
    high, low = add(two_sum(gamma, -jnp.ones_like(gamma)), single(-step))
    convex = high > 0
    return jnp.where(convex, high, 1), jnp.where(convex, low, 0)


def _pieces(v: Array, step: Array, gamma: Array) -> tuple[Array, Array]:
    """Returns where x = v − step, and where x lies between the knots; elsewhere x = v."""
    one = jnp.ones_like(gamma)
    convex = add(two_sum(gamma, -one), single(-step))[0] > 0
    before = add(two_sum(v, -one), single(-step))[0] <= 0
    # Without convexity: the value s·v − s²/2 at v − s against s(γ + 1)/2 at v.
    less = add(two_sum(2 * v, -step), negative(two_sum(gamma, one)))[0] <= 0
    small = add(two_sum(gamma, one), single(-step))[0] >= 0
    return jnp.where(convex, before, less & small), convex & ~before & (v < gamma)


def _beyond(v: Array, step: Array, gamma: Array) -> tuple[Array, Array]:
    soft, between = _pieces(v, step, gamma)
    one, room = jnp.ones_like(gamma), _room(step, gamma)
    # x = 1 + (γ − 1)(v − 1 − step)/(γ − 1 − step), v − x = step·(γ − v)/(γ − 1 − step): no term is negative.
    past = add(two_sum(v, -one), single(-step))
    x, _ = add(multiply(divide(two_sum(gamma, -one), room), past), single(one))
    shrinkage, _ = multiply(single(step), divide(two_sum(-v, gamma), room))
    x = jnp.where(soft, v - step, jnp.where(between, x, v))
    return x, jnp.where(soft, step, jnp.where(between, shrinkage, 0))


def _slopes(v: Array, x: Array, step: Array, gamma: Array) -> tuple[Array, Array, Array]:
    soft, between = _pieces(v, step, gamma)
    room, _ = _room(step, gamma)
    in_v = (gamma - 1) / room
    in_step, in_gamma = -in_v * ((gamma - v) / room), -(step / room) * ((v - 1 - step) / room)
    return (
        jnp.where(between, in_v, 1),
        jnp.where(soft, -1, jnp.where(between, in_step, 0)),
        jnp.where(between, in_gamma, 0),
    )


def _edge_slopes(step: Array, gamma: Array) -> tuple[Array, Array]:
    soft = step <= gamma + 1
    in_step, in_gamma = mean_root_slopes(step, gamma + 1)
    return jnp.where(soft, 1, in_step), jnp.where(soft, 0, in_gamma)


@dataclasses.dataclass(frozen=True)
class SCAD(Folded):
    r"""P(x) = Σ ρ(x_i), ρ with slope 1 up to 1, (γ − |x|)/(γ − 1) up to γ, and 0 beyond.

    ρ is the smoothly clipped absolute deviation at level 1: |x|, then (2γ|x| − x² − 1)/(2(γ − 1)), then (γ + 1)/2. With
    s = ``step``, prox is

    - for s < γ − 1: 0 up to t = s, |v| − s up to 1 + s, ((γ − 1)|v| − sγ)/(γ − 1 − s) up to γ, and v beyond;
    - for γ − 1 <= s <= γ + 1: 0 up to t = s, |v| − s up to (γ + 1 + s)/2, and v beyond, with a jump;
    - for s > γ + 1: 0 up to t = √(s(γ + 1)), and v beyond.

    In the literature the penalty at level λ is λ²·ρ(x/λ), and prox at unit step is λ·prox(v/λ, 1) here.

    Args:
      gamma: the second knot γ, finite and > 1; in a transformation also a schedule, a function of the step count.

    Raises:
      ValueError: if ``gamma`` is not finite or not above 1.

    Source: J. Fan, R. Li, JASA 2001, eq. 2.7 and 2.8 for s = 1; the cases s >= γ − 1 by comparing |v| − s with v.

    Example:
      >>> SCAD(3.0).prox(jnp.array([0.5, 1.5, 2.5, -4.0]), 1.0).tolist()
      [0.0, 0.5, 2.0, -4.0]
    """

    gamma: ArrayLike = 3.7
    name: ClassVar[str] = "scad"
    rule: ClassVar[Rule] = Rule(_edge, _beyond, _slopes, _edge_slopes)

    def __post_init__(self) -> None:
        _checks.above("gamma", self.gamma, 1, schedule=True)

    def value(self, x: ArrayLike) -> Array:
        """Returns Σ ρ(x_i)."""
        size, room = jnp.abs(x), self.gamma - 1
        past = jnp.clip(size - 1, 0, room)
        return jnp.sum(jnp.minimum(size, 1) + past * (1 - past / (2 * room)))
