"""The l1/2 penalty and half thresholding, without trigonometry."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax._double import Double, add, divide, multiply, negative, power_near, root, single, times
from rvsmjax._exact import two_product, two_sum
from rvsmjax.penalties.concave._folded import Folded, Rule

MOST = (2 / 27) ** 0.5
"""step/(2v^(3/2)) at the threshold, where it is largest."""


def _edge(step: Array, unused: Array) -> Double:
    """Returns t = (3/2)·step^(2/3)."""
    power = power_near(jnp.cbrt(jnp.where(step > 0, step, 1)))  # XLA divides by its cube, which must not be 0
    scaled = step / power / power / power
    first = jnp.cbrt(scaled)
    cube = multiply(two_product(first, first), single(first))
    rest, _ = add(single(scaled), negative(cube))
    near = two_sum(first, rest / (3 * jnp.where(first > 0, first * first, 1)))
    t = multiply(multiply(near, near), single(jnp.full_like(first, 1.5)))
    return times(times(t, power), power)


def _beyond(v: Array, step: Array, unused: Array) -> tuple[Array, Array]:
    # Scaled by a power of 4: v is about 1, and step by a power of 8.
    power = power_near(jnp.sqrt(jnp.where(v > 0, v, 1)))
    v = v / power / power
    half = step / power / power / power / 2  # 0 for huge v, where v − x is rounding in x
    # With x = v·r²: r − r³ = q = step/(2v^(3/2)), by Newton's method from above the largest root, which is simple.
    q = jnp.clip(half / (v * jnp.sqrt(jnp.where(v > 0, v, 1)) + (v == 0)), 0, MOST)
    r = 1 - q * (0.5 + 0.375 * q)
    for _ in range(3 if v.dtype == jnp.float32 else 4):
        r = r - (r * (1 - r * r) - q) / (1 - 3 * r * r)
    # v − x = (step/2)/√x divides an error of v − x by 4 or more.
    shrinkage = single(v * q / r)
    for _ in range(2):
        base = root(add(single(v), negative(shrinkage)))
        shrinkage = divide(single(half), base)
    x, _ = add(single(v), negative(shrinkage))
    return x * power * power, divide(single(step / power / 2), base)[0]


def _slopes(v: Array, x: Array, step: Array, unused: Array) -> tuple[Array, Array, Array]:
    # From x − v + step/(2√x) = 0. The second derivative of the objective is at least 3/4.
    x = jnp.where(x > 0, x, 1)
    base = jnp.sqrt(x)
    in_v = 1 / (1 - jnp.minimum(step / base / 2, x / 2) / (2 * x))
    return in_v, -in_v / (2 * base), jnp.zeros_like(v)


def _edge_slopes(step: Array, unused: Array) -> tuple[Array, Array]:
    base = jnp.cbrt(jnp.where(step > 0, step, 1))
    return jnp.where(step > 0, 1 / base, 0), jnp.zeros_like(step)


@dataclasses.dataclass(frozen=True)
class LHalf(Folded):
    r"""P(x) = Σ |x_i|^(1/2).

    prox is 0 up to t = (3/2)·s^(2/3), s = ``step``, and beyond it the largest root of x − |v| + s/(2√x) = 0, at least
    2|v|/3; at t it jumps to s^(2/3). The root comes from Newton's method: the printed closed form, the cosine of an arc
    cosine, loses digits for large v.

    Source: Z. Xu, X. Chang, F. Xu, H. Zhang, IEEE TNNLS 2012, eq. 12 and 13 (their λ is 2s).

    Example:
      >>> LHalf().prox(jnp.array([1.0, 3.75]), 3.0).tolist()
      [0.0, 2.8635...]
    """

    name: ClassVar[str] = "l_half"
    rule: ClassVar[Rule] = Rule(_edge, _beyond, _slopes, _edge_slopes)

    def value(self, x: ArrayLike) -> Array:
        """Returns Σ |x_i|^(1/2)."""
        size = jnp.abs(x)
        return jnp.sum(jnp.where(size > 0, jnp.sqrt(jnp.where(size > 0, size, 1)), 0))
