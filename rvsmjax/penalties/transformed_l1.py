"""The transformed l1 penalty and its thresholding, to full float32 accuracy and without trigonometry.

Derivation in docs/transformed_l1.md. In short: the shrinkage δ = |v| − |x| is the small root of δ(m − δ)² = K with
m = a + |v|, K = step·a(a + 1). With y = δ/m and q = √(1 − 27K/(4m³)), 1 − y is analytic in q on [0, 1], so a polynomial
evaluates it without iterating, and δ = K/(m(1 − y))². q² is computed from its value at the threshold and from |v| − t,
both to twice the working precision, because q → 0 where the threshold meets the double root.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._double import add, multiply, negative, power_near, times
from rvsmjax._exact import two_product, two_sum
from rvsmjax._polynomial import evaluate
from rvsmjax.geometry import float_dtype, working_dtype
from rvsmjax.penalties.base import Penalty

NEWTON = 2
"""Newton steps of the prox."""


@dataclasses.dataclass(frozen=True)
class TransformedL1(Penalty):
    r"""P(x) = Σ ρ(x_i), ρ(x) = (a + 1)|x| / (a + |x|): between l0 (a → 0) and l1 (a → ∞).

    prox is 0 for |v| ≤ t and the closed form g of A Lemma 5.2.1 beyond, with

    .. math:: t = s\,\frac{a+1}{a} \;\text{ if } s \le \frac{a^2}{2(a+1)}, \quad \sqrt{2s(a+1)} - \frac a2
       \;\text{ otherwise,}

    s = ``step``. Below that critical step prox is continuous; above it, prox jumps at t. The prox is accurate to 2
    units in the last place (a hundred at the float next to t, far below one of v), the shrinkage to a few, whereas the
    printed closed form can lose all digits. Derivatives come from the implicit
    function theorem; at the threshold of the critical step, where the true derivative is infinite, they are large and
    finite.

    Args:
      a: shape parameter, finite and > 0; in a transformation also a schedule, a function of the step count.

    Raises:
      ValueError: if ``a`` is not finite or not positive.

    Example:
      >>> TransformedL1(1.0).prox(jnp.array([0.1, 1.0]), 0.1).tolist()
      [0.0, 0.94725...]
    """

    a: ArrayLike = 1.0
    name: ClassVar[str] = "tl1"
    fixes_zero: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _checks.positive("a", self.a, schedule=True)

    def value(self, x: ArrayLike) -> Array:
        """Returns Σ (a + 1)|x_i| / (a + |x_i|)."""
        magnitude = jnp.abs(x)
        return jnp.sum((self.a + 1) * magnitude / (self.a + magnitude))

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns ``v`` moved towards 0, to 2 units in the last place, and 0 at or below the threshold."""
        _checks.nonnegative("step", step)
        v = jnp.asarray(v)
        dtype = working_dtype(v)
        wide, step, a = v.astype(dtype), jnp.asarray(step, dtype), jnp.asarray(self.a, dtype)
        size = _minimizer(jnp.abs(wide), step, a).astype(float_dtype(v))
        return jnp.where(v < 0, -size, size)

    def shrinkage(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns v − prox(v, step), computed directly."""
        _checks.nonnegative("step", step)
        v = jnp.asarray(v)
        dtype = working_dtype(v)
        wide, step, a = v.astype(dtype), jnp.asarray(step, dtype), jnp.asarray(self.a, dtype)
        delta = _shrink(jnp.abs(wide), step, a).astype(float_dtype(v))
        return jnp.where(v < 0, -delta, delta)

    def decomposition(self, v: ArrayLike, step: ArrayLike) -> tuple[Array, Array]:
        """Returns v − shrinkage and the shrinkage, at the cost of the latter."""
        v = jnp.asarray(v)
        wide = v.astype(working_dtype(v))
        delta = self.shrinkage(wide, step)
        # wide − delta may be rounding error instead of 0: in a fused multiply-add, if v is a product.
        x = jnp.where(jnp.abs(delta) >= jnp.abs(wide), 0, wide - delta)
        return x.astype(float_dtype(v)), delta.astype(float_dtype(v))

    def shrinker(self, step: Array) -> Callable[[Array], Array]:
        """Returns v ↦ shrinkage(v, step) with few operations per component; per-lane quantities are computed once.

        If the step is critical and v is at the threshold, q² is a small difference and half of the digits are lost.
        """
        a = jnp.asarray(self.a, step.dtype)
        t, _, _ = _edge(step, a)
        # With r = ∛(27K/4)/m, K = step·(a + 1)·a: q² = 1 − r³, δ = K/(m(1 − y))².
        # In factors, as K may overflow. As a quotient, which XLA computes once; it duplicates cheaper operations at
        # each use, where they may round differently.
        root = jnp.cbrt(step) * jnp.cbrt(a + 1) / (4 ** (1 / 3) / 3 / jnp.cbrt(a))
        front = 4 / 27 * root
        above = 1 + 4 * jnp.finfo(step.dtype).eps  # above r³ despite rounding
        word = {4: jnp.uint32, 8: jnp.uint64}[step.dtype.itemsize]
        sign = np.asarray(1 << (8 * step.dtype.itemsize - 1), word)
        bits = functools.partial(jax.lax.bitcast_convert_type, new_dtype=word)

        def shrink(v: Array) -> Array:
            size = jnp.abs(v)
            r = root / (a + size)
            share = r * evaluate(_inverse_rest, jnp.sqrt(above - r * r * r))  # NaN only below the threshold
            delta = jnp.where(size > t, front * share * share, size)
            return jax.lax.bitcast_convert_type(bits(delta) | (bits(v) & sign), v.dtype)

        return shrink

    def threshold(self, step: ArrayLike) -> Array:
        """Returns t, see the class docstring."""
        _checks.nonnegative("step", step)
        dtype = working_dtype(step, self.a)
        return _threshold(jnp.asarray(step, dtype), jnp.asarray(self.a, dtype))


@jax.custom_jvp
def _shrink(v: Array, step: Array, a: Array) -> Array:
    """Returns the shrinkage of v >= 0."""
    return _beyond(v, step, a, _edge(step, a))


@_shrink.defjvp
def _shrink_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    (v, step, a), (dv, dstep, da) = primals, tangents
    delta = _shrink(v, step, a)
    m = a + v
    y = delta / m
    # From δ(m − δ)² = K: dδ·(m − δ)(m − 3δ) = dK − 2δ(m − δ)·dm, divided by m².
    d_scaled = (a / m) * ((a + 1) / m) * dstep + (step / m) * ((2 * a + 1) / m) * da
    room = jnp.maximum(1 - 3 * y, 8 * jnp.finfo(v.dtype).eps)
    inside = (d_scaled - 2 * y * (1 - y) * (dv + da)) / ((1 - y) * room)
    # The comparison with the threshold, and its rounding, have no derivative.
    t, _, _ = _edge(*jax.lax.stop_gradient((step, a)))
    return delta, jnp.where(v > t, inside, dv)


@jax.custom_jvp
def _minimizer(v: Array, step: Array, a: Array) -> Array:
    """Returns the prox of v >= 0: v minus the shrinkage, refined by Newton's method in double words.

    Where x is small, v − δ keeps few of its digits.
    """
    edge = _edge(step, a)
    x = v - _beyond(v, step, a, edge)
    # (v − x)(a + x)² = step·a·(a + 1), with v, x and step in units near v, the others in units near a + v.
    unit, other = power_near(v), power_near(a + v)
    right = multiply(two_product(step / unit, a / other), times(two_sum(a, jnp.ones_like(a)), 1 / other))
    for _ in range(NEWTON):
        gap, sum_ = times(two_sum(v, -x), 1 / unit), times(two_sum(a, x), 1 / other)
        rest, _ = add(right, negative(multiply(gap, multiply(sum_, sum_))))
        slope = sum_[0] * (2 * gap[0] * (unit / other) - sum_[0])
        better = x + unit * (rest / jnp.where(slope < 0, slope, -1))
        x = jnp.where((slope < 0) & (better > 0) & (better <= v), better, x)
    return jnp.where(v > edge[0], x, 0)


@_minimizer.defjvp
def _minimizer_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    _, inside = jax.jvp(_shrink, primals, tangents)
    return _minimizer(*primals), tangents[0] - inside


def _beyond(v: Array, step: Array, a: Array, edge: tuple[Array, Array, Array]) -> Array:
    """Returns the shrinkage of v >= 0; v at or below the threshold."""
    t, t_low, q2_at_t = edge
    inverse = 1 / (a + v)
    # q² = q²(t) + (1 − q²(t))·(1 − (m(t)/m)³): no term is negative.
    h = jnp.abs((v - t) - t_low) * inverse  # rounding may make it negative at the threshold
    q2 = q2_at_t + (1 - q2_at_t) * (h * (3 - h * (3 - h)))
    share = inverse * evaluate(_inverse_rest, jnp.sqrt(q2))
    delta = ((step * (a + 1)) * share) * (a * share)
    # At most v: just above a subcritical threshold the rounding error of δ exceeds x.
    return jnp.where((v > t) & (delta < v), delta, v)


@jax.custom_jvp
def _threshold(step: Array, a: Array) -> Array:
    return _edge(step, a)[0]


@_threshold.defjvp
def _threshold_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    (step, a), (dstep, da) = primals, tangents
    linear = (a + 1) / a * dstep - step / a**2 * da
    root = jnp.sqrt(2 * step * (a + 1))
    beyond = jnp.where(root > 0, ((a + 1) * dstep + step * da) / jnp.where(root > 0, root, 1), 0) - da / 2
    return _threshold(step, a), jnp.where(_subcritical(step * (a + 1), a), linear, beyond)


def _subcritical(p: Array, a: Array) -> Array:
    return 2 * p <= a * a


def _edge(step: Array, a: Array) -> tuple[Array, Array, Array]:
    """Returns the threshold t rounded down, the remainder, and q² at t; step and a broadcast."""
    one, one_low = two_sum(a, jnp.ones_like(a))
    p, p_low = two_product(step, one)  # P = step·(a + 1)
    p_low = p_low + step * one_low
    # Subcritical: t = P/a, and x = 0 at t.
    t1 = p / a
    back, back_low = two_product(t1, a)
    t1_low = (((p - back) - back_low) + p_low) / a
    z1 = ((a - 2 * t1) - 2 * t1_low) / (3 * (a + t1))
    # Supercritical: t = √(2P) − a/2, and x = √(2P) − a at t.
    root = jnp.sqrt(2 * p)
    back, back_low = two_product(root, root)
    root_low = (((2 * p - back) - back_low) + 2 * p_low) / (2 * jnp.where(root > 0, root, 1))
    t2, t2_low = two_sum(root, -a / 2)
    t2_low = t2_low + root_low
    z2 = ((root - a) + root_low) / (3 * (a / 2 + root))
    first = _subcritical(p, a)
    z = jnp.clip(jnp.where(first, z1, z2), 0, 1 / 3)
    t, t_low = two_sum(jnp.where(first, t1, t2), jnp.where(first, t1_low, t2_low))
    # Rounded down, so v > t for a float v exactly if v exceeds the exact threshold.
    down = jnp.where(t_low < 0, jnp.nextafter(t, jnp.zeros_like(t)), t)
    return down, t_low + (t - down), jnp.minimum(6.75 * z * z * (1 + z), 1)


def _inverse_rest(q: np.ndarray) -> np.ndarray:
    """1/(1 − y), where 1 − y = 2/3 + z with z√(1 + z) = q√(4/27)."""
    target = q * np.sqrt(4 / 27)
    z = target
    for _ in range(60):
        z = target / np.sqrt(1 + z)
    return 1 / (2 / 3 + z)
