"""The binary activation and its straight-through estimators."""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks

STE = Literal["relu", "clipped_relu", "identity"]
"""Straight-through estimator: the function whose derivative replaces that of the step, which is 0 almost everywhere."""

_SLOPES = {
    "relu": lambda x: (x > 0).astype(x.dtype),
    "clipped_relu": lambda x: ((x > 0) & (x < 1)).astype(x.dtype),
    "identity": jnp.ones_like,
}


def binary(x: ArrayLike, ste: STE = "relu", scale: ArrayLike = 1.0) -> Array:
    r"""Returns :math:`1_{x > 0}`, with the shape and dtype of ``x``; the derivative is defined as scale·μ'(x).

    Args:
      x: array of any shape.
      ste: μ: ``"relu"``, max(x, 0); ``"clipped_relu"``, min(max(x, 0), 1); ``"identity"``, x.
      scale: number > 0; F eq. 8 uses √(2/π) with ``"relu"``.

    Raises:
      ValueError: if ``ste`` is unknown or ``scale`` <= 0.

    Source: F eq. 1 and 8.

    Example:
      >>> binary(jnp.array([-1.0, 0.5, 2.0])).tolist()
      [0.0, 1.0, 1.0]
      >>> jax.vmap(jax.grad(lambda x: binary(x, "clipped_relu")))(jnp.array([-1.0, 0.5, 2.0])).tolist()
      [0.0, 1.0, 0.0]
    """
    if ste not in _SLOPES:
        raise ValueError(f"ste must be one of {', '.join(_SLOPES)}, got {ste!r}")
    _checks.positive("scale", scale)
    return _step(jnp.asarray(x), ste, scale)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _step(x: Array, ste: str, scale: ArrayLike) -> Array:
    return (x > 0).astype(x.dtype)


@_step.defjvp
def _step_jvp(ste: str, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, scale), (dx, _) = primals, tangents
    return _step(x, ste, scale), (jnp.asarray(scale, x.dtype) * _SLOPES[ste](x)) * dx
