"""What the folded concave penalties share: signs, dtypes, the comparison with the threshold, derivatives."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._double import Double, below, multiply, power_near, root, single, times
from rvsmjax.geometry import float_dtype, working_dtype
from rvsmjax.penalties.base import Penalty


class Rule(NamedTuple):
    """The scalar problem min_x ½(x − v)² + step·ρ(x) of a penalty with one parameter, for v >= 0.

    Attributes:
      edge: (step, parameter) ↦ the threshold, to twice the precision.
      beyond: (v, step, parameter) ↦ the minimizer x and v − x, each computed directly, where v exceeds the threshold;
        elsewhere anything.
      slopes: (v, x, step, parameter) ↦ the derivatives of x by v, step and parameter, for the same v.
      edge_slopes: (step, parameter) ↦ the derivatives of the threshold.
    """

    edge: Callable[[Array, Array], Double]
    beyond: Callable[[Array, Array, Array], tuple[Array, Array]]
    slopes: Callable[[Array, Array, Array, Array], tuple[Array, Array, Array]]
    edge_slopes: Callable[[Array, Array], tuple[Array, Array]]


@dataclasses.dataclass(frozen=True)
class Folded(Penalty):
    """A folded concave penalty. Its prox and shrinkage come from its ``rule``; a subclass has at most one number."""

    rule: ClassVar[Rule]
    fixes_zero: ClassVar[bool] = True

    @property
    def _number(self) -> ArrayLike:
        return next((getattr(self, field.name) for field in dataclasses.fields(self)), 0.0)

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns ``v`` moved towards 0, and 0 at or below the threshold."""
        return self._signed(v, step, 0)

    def shrinkage(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns v − prox(v, step), computed directly."""
        return self._signed(v, step, 1)

    def _signed(self, v: ArrayLike, step: ArrayLike, part: int) -> Array:
        _checks.nonnegative("step", step)
        v = jnp.asarray(v)
        wide = v.astype(working_dtype(v))
        step, number = jnp.asarray(step, wide.dtype), jnp.asarray(self._number, wide.dtype)
        size = _minimizer(self.rule, jnp.abs(wide), step, number)[part].astype(float_dtype(v))
        return jnp.where(v < 0, -size, size)

    def threshold(self, step: ArrayLike) -> Array:
        """Returns t, see the class docstring."""
        _checks.nonnegative("step", step)
        dtype = working_dtype(step, self._number)
        return _threshold(self.rule, jnp.asarray(step, dtype), jnp.asarray(self._number, dtype))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _minimizer(rule: Rule, v: Array, step: Array, number: Array) -> tuple[Array, Array]:
    step, number = jax.lax.optimization_barrier((step, number))  # constants would break double words, see _double
    x, shrinkage = rule.beyond(v, step, number)
    kept = v > below(rule.edge(step, number))
    identity = step == 0
    x = jnp.where(identity, v, jnp.clip(x, 0, v))
    shrinkage = jnp.where(identity, 0, jnp.clip(shrinkage, 0, v))
    return jnp.where(kept, x, 0), jnp.where(kept, shrinkage, v)


@_minimizer.defjvp
def _minimizer_jvp(
    rule: Rule, primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    out = _minimizer(rule, *primals)
    # Whether v exceeds the threshold, and its rounding, have no derivative.
    kept = jax.lax.stop_gradient(primals[0] > below(rule.edge(*jax.lax.stop_gradient(primals[1:]))))
    slopes = (jnp.where(kept, slope, 0) for slope in rule.slopes(primals[0], out[0], *primals[1:]))
    change = sum((slope * tangent for slope, tangent in zip(slopes, tangents, strict=True)), jnp.zeros_like(out[0]))
    return out, (change, tangents[0] - change)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _threshold(rule: Rule, step: Array, number: Array) -> Array:
    return below(rule.edge(*jax.lax.optimization_barrier((step, number))))


@_threshold.defjvp
def _threshold_jvp(rule: Rule, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    t = _threshold(rule, *primals)
    in_step, in_number = rule.edge_slopes(*primals)
    return t, in_step * tangents[0] + in_number * tangents[1] + jnp.zeros_like(t)


def mean_root(x: Array, y: Double) -> Double:
    """Returns √(x·y) for x, y >= 0, scaled against overflow."""
    scale = power_near(jnp.sqrt(x) * jnp.sqrt(y[0]))
    return times(root(multiply(single(x / scale), times(y, 1 / scale))), scale)


def mean_root_slopes(x: Array, y: Array) -> tuple[Array, Array]:
    """Returns the derivatives of √(x·y), 0 where they are infinite."""
    positive = (x > 0) & (y > 0)
    x, y = jnp.where(positive, x, 1), jnp.where(positive, y, 1)
    ratio = jnp.sqrt(y) / jnp.sqrt(x)
    return jnp.where(positive, ratio / 2, 0), jnp.where(positive, 0.5 / ratio, 0)
