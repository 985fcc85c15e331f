"""Sparsity schedules: functions of the step count, for ``TopK(sparsity=…)`` and other numbers."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks

Schedule = Callable[[ArrayLike], Array]


def cubic_sparsity(final: float | Array, begin: int, end: int, initial: float | Array = 0.0) -> Schedule:
    """Returns the schedule final + (initial − final)(1 − τ)³, where τ rises from 0 at ``begin`` to 1 at ``end``.

    Prunes fast at first, while many components are redundant, and slowly towards the end. Constant outside
    [begin, end].

    Args:
      final: final sparsity, in [0, 1).
      begin: step at which the sparsity starts to rise, >= 0.
      end: step at which it reaches ``final``, > begin.
      initial: initial sparsity, in [0, 1).

    Raises:
      ValueError: if a number is out of range.

    Example:
      >>> schedule = cubic_sparsity(0.9, begin=0, end=100)
      >>> [round(float(schedule(step)), 4) for step in (0, 50, 100, 200)]
      [0.0, 0.7875, 0.9, 0.9]
    """
    share = _progress(final, begin, end, initial)
    return lambda step: final + (initial - final) * (1 - share(step)) ** 3


def cosine_sparsity(final: float | Array, begin: int, end: int, initial: float | Array = 0.0) -> Schedule:
    """Returns the schedule initial + (final − initial)(1 − cos πτ)/2; τ, arguments and errors as in ``cubic_sparsity``.

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
