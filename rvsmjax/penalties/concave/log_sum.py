"""The log-sum penalty."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._double import Double, add, divide, log1p, multiply, negative, power_near, root, single, times
from rvsmjax._exact import two_product, two_sum
from rvsmjax._polynomial import evaluate
from rvsmjax.penalties.concave._folded import Folded, Rule


def _edge(step: Array, epsilon: Array) -> Double:
    slope = divide(single(step), single(epsilon))
    sigma = divide(slope, single(epsilon))
    excess, _ = add(sigma, single(-jnp.ones_like(sigma[0])))
    y = _jump(excess)
    jumps = y > 0
    y = jnp.where(jumps, y, 1)
    # t/ε is the least y/2 + σ·log(1 + y)/y, so an error of y counts squared.
    t = add(single(y / 2), multiply(sigma, divide(log1p(y), single(y))))
    t = multiply(t, single(epsilon))
    return jnp.where(jumps, t[0], slope[0]), jnp.where(jumps, t[1], slope[1])


def _jump(excess: Array) -> Array:
    """Returns y = x/ε just above the threshold, for σ = 1 + ``excess``; 0 where the objective is convex, σ <= 1.

    There 0 and x tie: log(1 + y) − y/(1 + y) = y²/(2σ). In h = log(1 + y) the logarithm of σ, which is
    2·log((eʰ − 1)/h) − log(2(h − 1 + e⁻ʰ)/h²), is nearly linear.
    """
    wanted = jnp.log1p(jnp.maximum(excess, 0))

    def newton(_: int, h: Array) -> Array:
        small, large = jnp.minimum(h, 1), jnp.maximum(h, 1)
        fall = -jnp.expm1(-large)
        rise = jnp.where(h > 0, jnp.expm1(h) / jnp.where(h > 0, h, 1), 1)
        rest = jnp.where(h < 1, evaluate(_rest, small), 2 * (large - fall) / (large * large))
        slope = jnp.where(h < 1, 4 / 3 + small / 9, 2 / fall - fall / (large - fall))
        return jnp.maximum(h - (2 * jnp.log(rise) - jnp.log(rest) - wanted) / slope, 0)

    h = jax.lax.fori_loop(0, 5, newton, 0.6 * wanted)
    return jnp.where(excess > 0, jnp.expm1(h), 0)


def _rest(h: np.ndarray) -> np.ndarray:
    """2(h − 1 + e⁻ʰ)/h², by its power series."""
    return sum((2 * (-h) ** n / math.factorial(n + 2) for n in range(30)), np.zeros_like(h))


def _roots(v: Array, step: Array, epsilon: Array) -> tuple[Array, Double, Double, Double]:
    """Returns a power of two c, (v − ε)/c, (vε − step)/c², and √((v + ε)² − 4·step)/c."""
    scale = power_near(jnp.maximum(v, epsilon))
    v, epsilon, step = v / scale, epsilon / scale, jnp.minimum(step / scale / scale, 4)
    difference = two_sum(v, -epsilon)
    # Where the two stationary points are close, (v + ε)² − 4·step would cancel; (v − ε)² + 4(vε − step) does not.
    over = add(two_product(v, epsilon), single(-step))
    square = add(multiply(difference, difference), times(over, jnp.asarray(4, v.dtype)))
    positive = square[0] > 0
    return scale, difference, over, root((jnp.where(positive, square[0], 0), jnp.where(positive, square[1], 0)))


def _beyond(v: Array, step: Array, epsilon: Array) -> tuple[Array, Array]:
    scale, difference, over, distance = _roots(v, step, epsilon)
    # x = ((v − ε) + √…)/2, as a quotient where that would cancel; v − x = 2·step/((v + ε) + √…).
    low = v < epsilon
    x, _ = times(add(difference, distance), jnp.asarray(0.5, v.dtype))
    both = add(distance, negative(difference))
    quotient, _ = divide(over, (jnp.where(low, both[0], 1), jnp.where(low, both[1], 0)))
    x = jnp.where(low, 2 * quotient, x)
    whole = add(two_sum(v / scale, epsilon / scale), distance)
    shrinkage, _ = divide(single(2 * (step / scale)), whole)
    return x * scale, shrinkage


def _slopes(v: Array, x: Array, step: Array, epsilon: Array) -> tuple[Array, Array, Array]:
    # From x − v + step/(x + ε) = 0. The second derivative of the objective is the distance of the roots over x + ε.
    scale, _, _, (distance, _) = _roots(v, step, epsilon)
    m = x / scale + epsilon / scale
    tiny = 8 * jnp.finfo(v.dtype).eps
    in_v = 1 / jnp.maximum(distance / m, tiny)
    m = m * scale
    return in_v, -in_v / m, in_v * (step / m / m)


def _edge_slopes(step: Array, epsilon: Array) -> tuple[Array, Array]:
    # That of min over x of x/2 + step·log(1 + x/ε)/x.
    excess, _ = add(
        divide(divide(single(step), single(epsilon)), single(epsilon)), single(-jnp.ones_like(step * epsilon))
    )
    y = _jump(excess)
    share = jnp.where(y > 0, jnp.log1p(y) / jnp.where(y > 0, y, 1), 1)
    return share / epsilon, -(step / epsilon) / epsilon / (1 + y)


@dataclasses.dataclass(frozen=True)
class LogSum(Folded):
    r"""P(x) = Σ log(1 + |x_i|/ε): between ℓ1 (ε → ∞, times ε) and ℓ0.

    Beyond the threshold t, with s = ``step``, prox is the larger root of (x + ε)(|v| − x) = s,

    .. math:: x = \tfrac12\left(|v| - ε + \sqrt{(|v| + ε)^2 - 4s}\right).

    For s <= ε² the objective is convex and t = s/ε. Otherwise prox jumps at t, the minimum over y > 0 of
    ε(y/2 + (s/ε²)·log(1 + y)/y), from 0 to εy. The minimizing y has no closed form: it comes from Newton's method, and
    t is evaluated to twice the precision. s/ε² must be a finite number.

    Args:
      epsilon: ε, finite and > 0; in a transformation also a schedule, a function of the step count.

    Raises:
      ValueError: if ``epsilon`` is not finite or not positive.

    Source: E. Candès, M. Wakin, S. Boyd, J. Fourier Anal. Appl. 2008, arXiv 0711.1612 (the penalty); the threshold by
    comparing the root with 0.

    Example:
      >>> LogSum(1.0).prox(jnp.array([0.5, 1.5, -3.0]), 1.0).tolist()
      [0.0, 1.0, -2.7320...]
    """

    epsilon: ArrayLike = 1.0
    name: ClassVar[str] = "log_sum"
    rule: ClassVar[Rule] = Rule(_edge, _beyond, _slopes, _edge_slopes)

    def __post_init__(self) -> None:
        _checks.positive("epsilon", self.epsilon, schedule=True)

    def value(self, x: ArrayLike) -> Array:
        """Returns Σ log(1 + |x_i|/ε)."""
        return jnp.sum(jnp.log1p(jnp.abs(x) / self.epsilon))
