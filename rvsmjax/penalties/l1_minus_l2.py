"""The difference of the l1 and l2 norms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._double import Double, add, divide, multiply, negative, power_near, root, single
from rvsmjax._exact import two_product, two_sum
from rvsmjax._sharding import automatic
from rvsmjax.geometry import float_dtype, norm, working_dtype
from rvsmjax.penalties.base import Penalty


@dataclasses.dataclass(frozen=True)
class L1MinusL2(Penalty):
    r"""P(x) = ‖x‖₁ − α‖x‖₂ of all components together.

    With s = ``step``, z the soft-thresholded v, sgn(v_i)·max(|v_i| − s, 0), and m = max |v_i|, prox is

    - z·(1 + αs/‖z‖₂) for m > s;
    - for (1 − α)s < m <= s one nonzero component, the first of the largest, of magnitude m − (1 − α)s;
    - 0 for m <= (1 − α)s. So with α = 1 only 0 becomes 0: a vector with one nonzero component costs nothing.

    If several components share the maximum m <= s, the minimizer is not unique.

    Args:
      alpha: α in [0, 1]; in a transformation also a schedule, a function of the step count.

    Raises:
      ValueError: if ``alpha`` is outside [0, 1].

    Source: Y. Lou, M. Yan, J. Sci. Comput. 2018, Lemma 1.

    Example:
      >>> L1MinusL2().prox(jnp.array([4.0, -5.0, 0.5]), 1.0).tolist()
      [3.5999..., -4.8000..., 0.0]
    """

    alpha: ArrayLike = 1.0
    name: ClassVar[str] = "l1_minus_l2"
    separable: ClassVar[bool] = False
    fixes_zero: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _checks.share("alpha", self.alpha, schedule=True)

    def value(self, x: ArrayLike) -> Array:
        """Returns ‖x‖₁ − α‖x‖₂."""
        x = jnp.asarray(x)
        wide = jnp.ravel(x.astype(working_dtype(x)))
        return jnp.sum(jnp.abs(wide)) - self.alpha * norm(wide)

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns ``v`` soft-thresholded and lengthened again, see the class docstring."""
        return self._signed(v, step, 0)

    def shrinkage(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns v − prox(v, step), computed directly."""
        return self._signed(v, step, 1)

    def _signed(self, v: ArrayLike, step: ArrayLike, part: int) -> Array:
        _checks.nonnegative("step", step)
        v = jnp.asarray(v)
        dtype = working_dtype(v)

        def whole(leaves: Sequence[Array], step: Array, alpha: Array) -> list[Array]:
            (leaf,) = leaves
            size = jnp.abs(jnp.ravel(leaf.astype(dtype)))
            out = _minimizer(size, step, alpha)[part].reshape(leaf.shape).astype(float_dtype(leaf))
            return [jnp.where(leaf < 0, -out, out)]

        if not v.size:
            return v.astype(float_dtype(v))
        return automatic(whole, [v], jnp.asarray(step, dtype), jnp.asarray(self.alpha, dtype))[0]


@jax.custom_jvp
def _minimizer(v: Array, step: Array, alpha: Array) -> tuple[Array, Array]:
    """Returns the minimizer x for a vector v >= 0, and v − x."""
    step, alpha = jax.lax.optimization_barrier((step, alpha))  # constants would break double words, see _double
    scale, z, share = _thresholded(v, step, alpha)
    longer = multiply(z, share)
    x, _ = add(z, longer)
    rest, _ = add(single(jnp.minimum(v / scale, step / scale)), negative(longer))
    dense, only = _cases(v, step, alpha)
    one, _ = add(two_sum(v, -step), two_product(alpha, step))
    lost, _ = multiply(single(step), two_sum(-alpha, jnp.ones_like(alpha)))
    return (
        jnp.where(dense, x * scale, jnp.where(only, one, 0)),
        jnp.where(dense, rest * scale, jnp.where(only, lost, v)),
    )


@_minimizer.defjvp
def _minimizer_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (v, step, alpha), (dv, dstep, dalpha) = primals, tangents
    _, (z, _), (share, _) = _thresholded(v, step, alpha)
    dense, only = _cases(v, step, alpha)
    moved = dense & (z > 0)
    length = norm(z)
    unit = jnp.where(dense, z / jnp.where(length > 0, length, 1), 0)
    dz = jnp.where(moved, dv - dstep, 0)
    share = jnp.where(dense, share, 0)
    change = dz + unit * (alpha * dstep + step * dalpha) + share * (dz - unit * jnp.sum(unit * dz))
    change = jnp.where(dense, change, jnp.where(only, dv + (alpha - 1) * dstep + step * dalpha, 0))
    return _minimizer(v, step, alpha), (change, dv - change)


def _cases(v: Array, step: Array, alpha: Array) -> tuple[Array, Array]:
    """Returns whether the maximum exceeds ``step``, and the mask of the only component that is nonzero otherwise."""
    most = jnp.max(v)
    some = add(two_sum(most, -step), two_product(alpha, step))[0] > 0
    return most > step, some & (jnp.arange(v.size) == jnp.argmax(v))


def _thresholded(v: Array, step: Array, alpha: Array) -> tuple[Array, Double, Double]:
    """Returns a power of two c, the soft-thresholded vector z over c, and α·step/‖z‖."""
    scale = power_near(jnp.max(v))
    v, step = v / scale, step / scale
    high, low = two_sum(v, -step)
    kept = high > 0
    z = jnp.where(kept, high, 0), jnp.where(kept, low, 0)
    zero = jnp.zeros((), v.dtype)
    square = jax.lax.reduce(multiply(z, z), (zero, zero), add, (0,))
    positive = square[0] > 0
    length = root((jnp.where(positive, square[0], 1), jnp.where(positive, square[1], 0)))
    return scale, z, divide(two_product(alpha, step), length)
