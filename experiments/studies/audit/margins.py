"""Margins of inequalities: how much room is left, and how much of it rounding may take."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

ROUNDINGS = 256
"""Rounding errors, each eps/2 of the largest term, that a margin is granted, twice over."""


class Margin(NamedTuple):
    """The room that an inequality leaves.

    Attributes:
      slack: right side minus left side; the inequality holds where it is >= 0. An equation has −|difference|.
      allowance: what rounding, and a limit's known distance from its true place, may take off: −allowance <= slack < 0
        is no violation, and no proof either.
    """

    slack: Array
    allowance: Array


Margins = dict[str, Margin]
"""Margins by what they say."""


def at_most(left: ArrayLike, right: ArrayLike, *terms: ArrayLike, error: ArrayLike = 0.0) -> Margin:
    """Returns the margin of left <= right, the worst of its entries.

    Args:
      left: of any shape.
      right: broadcast against ``left``.
      *terms: magnitudes that went into the sides and cancelled there; they widen the allowance of
        ``ROUNDINGS``·eps·(|left| + |right| + Σ terms).
      error: further allowance, where the sides are known not to be exact.

    Example:
      >>> margin = at_most(jnp.array([1.0, 2.0]), 3.0)
      >>> float(margin.slack), float(margin.allowance) < 1e-3
      (1.0, True)
    """
    left, right = jnp.asarray(left), jnp.asarray(right)
    scale = jnp.abs(left) + jnp.abs(right)
    for term in terms:
        scale = scale + jnp.abs(term)
    slack = right - left
    allowance = ROUNDINGS * jnp.finfo(slack.dtype).eps * scale + error
    slack, allowance = jnp.broadcast_arrays(slack, allowance)
    if not slack.ndim:
        return Margin(slack, allowance)
    worst = jnp.argmin(slack + allowance)
    return Margin(slack.reshape(-1)[worst], allowance.reshape(-1)[worst])


def at_least(left: ArrayLike, right: ArrayLike, *terms: ArrayLike, error: ArrayLike = 0.0) -> Margin:
    """Returns the margin of left >= right, the worst of its entries; see ``at_most``."""
    return at_most(right, left, *terms, error=error)


def equal(left: ArrayLike, right: ArrayLike, *terms: ArrayLike, error: ArrayLike = 0.0) -> Margin:
    """Returns the margin of left = right, −|left − right| at its worst entry: at best within rounding; see ``at_most``.

    Example:
      >>> float(equal(jnp.array([1.0, 2.0]), jnp.array([1.0, 2.5])).slack)
      -0.5
    """
    gap = jnp.abs(jnp.asarray(left) - jnp.asarray(right))
    return at_most(gap, 0.0, left, right, *terms, error=error)
