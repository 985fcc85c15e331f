"""Schedules of sparsity: functions of the step count for ``TopK(sparsity=…)`` and other numbers."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks

Schedule = Callable[[ArrayLike], Array]


def cubic_sparsity(final: float | Array, begin: int, end: int, initial: float | Array = 0.0) -> Schedule:
    """Returns final + (initial − final)(1 − τ)³, τ running from 0 at step ``begin`` to 1 at step ``end``.

    Fast where many components are spare, slow towards the end; constant outside [begin, end].

    Args:
      final: sparsity at the end, in [0, 1).
      begin: first step of the rise, >= 0.
      end: last step of it, > begin.
      initial: sparsity before, in [0, 1).

    Raises:
      ValueError: a number out of its range.

    Example:
      >>> schedule = cubic_sparsity(0.9, begin=0, end=100)
      >>> [round(float(schedule(step)), 4) for step in (0, 50, 100, 200)]
      [0.0, 0.7875, 0.9, 0.9]
    """
    share = _progress(final, begin, end, initial)
    return lambda step: final + (initial - final) * (1 - share(step)) ** 3


def cosine_sparsity(final: float | Array, begin: int, end: int, initial: float | Array = 0.0) -> Schedule:
    """Returns initial + (final − initial)(1 − cos πτ)/2, with τ, arguments and errors as in ``cubic_sparsity``.

    Example:
      >>> schedule = cosine_sparsity(0.9, begin=0, end=100)
      >>> [round(float(schedule(step)), 4) for step in (0, 50, 100)]
      [0.0, 0.45, 0.9]
    """
    share = _progress(final, begin, end, initial)
    return lambda step: initial + (final - initial) * (1 - jnp.cos(jnp.pi * share(step))) / 2


def _progress(final: float | Array, begin: int, end: int, initial: float | Array) -> Schedule:
    _checks.fraction("final", final)
    _checks.fraction("initial", initial)
    _checks.integer("begin", begin, at_least=0)
    _checks.integer("end", end, at_least=1)
    if end <= begin:
        raise ValueError(f"end must be > begin = {begin}, got {end}")
    return lambda step: jnp.clip((jnp.asarray(step, jnp.float32) - begin) / (end - begin), 0, 1)
