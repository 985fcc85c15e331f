"""Norms and angles without cancellation, with finite derivatives everywhere.

All functions reduce the last axis unless an axis is given, keep the dtype of their input, and accept leading batch
axes. 16-bit inputs are computed in float32 and rounded once at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks


def float_dtype(*arrays: ArrayLike) -> jnp.dtype:
    """Returns the common floating dtype of the arrays; the default float dtype if they are integers."""
    dtype = jnp.result_type(*arrays)
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)


def working_dtype(*arrays: ArrayLike) -> jnp.dtype:
    """Returns the dtype to compute in: the arrays' common floating dtype, at least float32."""
    return jnp.promote_types(float_dtype(*arrays), jnp.float32)


def reciprocal(x: Array) -> Array:
    """Returns 1/x, and 0 where x is zero or so small that 1/x would overflow."""
    tiny = jnp.finfo(x.dtype).tiny
    safe = jnp.abs(x) > 4 * tiny
    return jnp.where(safe, 1 / jnp.where(safe, x, 1), 0)


@jax.custom_jvp
def quotient(x: Array, y: Array) -> Array:
    """Returns x/y, and 0 where y is zero or so small that 1/y would overflow; y broadcasts against x.

    The derivative is formed as (dx − (x/y)·dy)/y, without squares of y or 1/y, which overflow long before x/y does.
    """
    return _divide(x, y)


@quotient.defjvp
def _quotient_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    (x, y), (dx, dy) = primals, tangents
    ratio = _divide(x, y)
    return ratio, _divide(dx - ratio * dy, y)


def _divide(x: Array, y: Array) -> Array:
    safe = jnp.abs(y) > 4 * jnp.finfo(y.dtype).tiny
    return jnp.where(safe, x / jnp.where(safe, y, 1), 0)


def norm(v: ArrayLike, axis: int | Sequence[int] = -1, keepdims: bool = False) -> Array:
    r"""Returns the Euclidean norm of ``v``, without overflow or underflow of the squares.

    The derivative is :math:`\langle v/\|v\|, dv\rangle`, and 0 at v = 0.

    Args:
      v: array of any shape.
      axis: axis or axes to reduce.
      keepdims: whether to keep the reduced axes with length 1.

    Example:
      >>> float(norm(jnp.array([3e30, 4e30])))
      4.9999999...e+30
    """
    v = jnp.asarray(v)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    out = _norm(v.astype(working_dtype(v)), axes)
    out = out if keepdims else jnp.squeeze(out, axes)
    return out.astype(float_dtype(v))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _norm(v: Array, axes: tuple[int, ...]) -> Array:
    info = jnp.finfo(v.dtype)
    largest = jnp.max(jnp.abs(v), axis=axes, keepdims=True, initial=0)
    # Scale by a nearby power of two, which is exact; bounded, so its reciprocal does not underflow.
    scale = jax.lax.reduce_precision(jnp.minimum(largest, 1 / (4 * info.tiny)), info.nexp, 0)
    return scale * jnp.sqrt(jnp.sum(jnp.square(v * reciprocal(scale)), axis=axes, keepdims=True))


@_norm.defjvp
def _norm_jvp(axes: tuple[int, ...], primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    (v,), (dv,) = primals, tangents
    n = _norm(v, axes)
    return n, jnp.sum(v * reciprocal(n) * dv, axis=axes, keepdims=True)


def unit(v: ArrayLike, axis: int = -1) -> Array:
    """Returns v/‖v‖ over ``axis``; zero for a zero vector.

    Example:
      >>> unit(jnp.array([3.0, 4.0])).tolist()
      [0.6000000..., 0.8000000...]
    """
    v = jnp.asarray(v)
    wide = v.astype(working_dtype(v))
    return quotient(wide, _norm(wide, (axis,))).astype(float_dtype(v))


def length_difference(u: ArrayLike, v: ArrayLike) -> Array:
    """Returns ‖u‖ − ‖v‖ over the last axis as <u − v, û‖u‖ + v̂‖v‖>/(‖u‖ + ‖v‖), accurate for nearby vectors.

    Example:
      >>> float(length_difference(jnp.array([3.0, 4.0]), jnp.array([3.0, 4.000001])))
      -7.6...e-07
    """
    u, v = jnp.asarray(u), jnp.asarray(v)
    wide, other = u.astype(working_dtype(u, v)), v.astype(working_dtype(u, v))
    n, m = norm(wide), norm(other)
    total = n + m
    share = jnp.where(total > 0, quotient(n, total), 0.5)[..., None]
    return jnp.sum((wide - other) * (share * unit(wide) + (1 - share) * unit(other)), -1).astype(float_dtype(u, v))


def chord(u: ArrayLike, v: ArrayLike) -> Array:
    """Returns û − v̂ over the last axis, of norm 2 sin(θ/2), accurate for nearby vectors.

    Computed as (u − v − Δ·û)/‖v‖ with Δ = ‖u‖ − ‖v‖, or with v̂ and ‖u‖ if u is longer. A zero vector has direction 0.

    Example:
      >>> chord(jnp.array([2.0, 0.0]), jnp.array([0.0, 3.0])).tolist()
      [1.0, -1.0]
    """
    u, v = jnp.asarray(u), jnp.asarray(v)
    wide, other = u.astype(working_dtype(u, v)), v.astype(working_dtype(u, v))
    n, m = norm(wide)[..., None], norm(other)[..., None]
    # One comparison selects both: at equal lengths, jnp.maximum would average the two derivatives.
    shorter, longest = jnp.where(n < m, unit(wide), unit(other)), jnp.where(n < m, m, n)
    across = wide - other - length_difference(wide, other)[..., None] * shorter
    return quotient(across, longest).astype(float_dtype(u, v))


def angle(u: ArrayLike, v: ArrayLike) -> Array:
    r"""Returns the angle between ``u`` and ``v`` in radians, in [0, π], over the last axis.

    .. math:: \theta = 2\,\mathrm{atan2}(\|\hat u - \hat v\|, \|\hat u + \hat v\|)

    The arc cosine of the inner product cannot resolve angles below 3.5e-4 in float32; this form keeps full relative
    accuracy near 0 and π. The angle with a zero vector is π/2. The derivative, a unit tangent vector divided by the
    length, has no limit at 0 and π; it is set to 0 where rounding hides its direction.

    Args:
      u: array of shape (..., d).
      v: array of shape (..., d), broadcast against ``u``.

    Raises:
      ValueError: if the last axes differ in length.

    Example:
      >>> float(angle(jnp.array([1.0, 0.0]), jnp.array([1.0, 1e-5])))
      9.99999...e-06
    """
    u, v = jnp.asarray(u), jnp.asarray(v)
    _checks.last_axis(u=u, v=v)
    dtype = working_dtype(u, v)
    return _angle(u.astype(dtype), v.astype(dtype)).astype(float_dtype(u, v))


@jax.custom_jvp
def _angle(u: Array, v: Array) -> Array:
    nu, nv = _norm(u, (-1,)), _norm(v, (-1,))
    u, v = u * reciprocal(nu), v * reciprocal(nv)
    far, near = jnp.sum(jnp.square(u - v), -1), jnp.sum(jnp.square(u + v), -1)
    theta = 2 * jnp.arctan2(jnp.sqrt(far), jnp.sqrt(near))
    return jnp.where((nu > 0) & (nv > 0), theta[..., None], jnp.pi / 2)[..., 0]


@_angle.defjvp
def _angle_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    (u, v), (du, dv) = primals, tangents
    a, b = unit(u), unit(v)

    def slope(a: Array, b: Array, vector: Array, tangent: Array) -> Array:
        """Change of the angle as ``vector``, of direction a, moves: minus the component along the tangent towards b."""
        # Chord from the nearer of a and −a, so it is short wherever the tangent is.
        chord = b - jnp.where(jnp.sum(a * b, -1, keepdims=True) < 0, -a, a)
        towards = chord - jnp.sum(chord * a, -1, keepdims=True) * a
        # If the tangent is rounding error, u and v are parallel and the derivative is undefined.
        resolved = _norm(towards, (-1,)) > 8 * jnp.finfo(a.dtype).eps
        direction = jnp.where(resolved, unit(towards), 0)
        return -jnp.sum(direction * tangent * reciprocal(_norm(vector, (-1,))), -1)

    return _angle(u, v), slope(a, b, u, du) + slope(b, a, v, dv)


def tangent(w: ArrayLike, g: ArrayLike) -> Array:
    """Returns the part of ``g`` orthogonal to ``w``, both (..., d): the projection on the sphere's tangent space at w.

    Example:
      >>> tangent(jnp.array([2.0, 0.0]), jnp.array([5.0, 7.0])).tolist()
      [0.0, 7.0]
    """
    direction = unit(w)
    return jnp.asarray(g) - jnp.sum(direction * g, -1, keepdims=True) * direction
