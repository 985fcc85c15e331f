"""Margins of inequalities: the slack, and the rounding error that it may contain."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

ROUNDINGS = 256
"""Allowance of a margin in eps of the summed magnitudes of its terms: twice as many rounding errors of eps/2."""


class Margin(NamedTuple):
    """Slack of an inequality.

    Attributes:
      slack: right side minus left side, so the inequality holds if it is >= 0; −|difference| for an equation.
      allowance: bound on the error of the slack, from rounding and from the residual of a limit; a slack in
        [−allowance, 0) is inconclusive.
    """

    slack: Array
    allowance: Array


Margins = dict[str, Margin]
"""Margins by the inequality's name."""


def at_most(left: ArrayLike, right: ArrayLike, *terms: ArrayLike, error: ArrayLike = 0.0) -> Margin:
    """Returns the margin of left <= right at its worst entry.

    Args:
      left: of any shape.
      right: broadcast against ``left``.
      *terms: magnitudes that cancel within a side; the allowance is ``ROUNDINGS``·eps·(|left| + |right| + Σ terms).
      error: additional allowance.

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
    """Returns the margin of left >= right at its worst entry; see ``at_most``."""
    return at_most(right, left, *terms, error=error)


def equal(left: ArrayLike, right: ArrayLike, *terms: ArrayLike, error: ArrayLike = 0.0) -> Margin:
    """Returns the margin of left = right, −|left − right| at its worst entry; see ``at_most``.

    Example:
      >>> float(equal(jnp.array([1.0, 2.0]), jnp.array([1.0, 2.5])).slack)
      -0.5
    """
    gap = jnp.abs(jnp.asarray(left) - jnp.asarray(right))
    return at_most(gap, 0.0, left, right, *terms, error=error)
