"""The minimax concave penalty and firm thresholding."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._double import Double, divide, multiply, single
from rvsmjax._exact import two_sum
from rvsmjax.penalties.concave._folded import Folded, Rule, mean_root, mean_root_slopes


def _edge(step: Array, gamma: Array) -> Double:
    convex = step < gamma
    t, low = mean_root(step, single(gamma))
    return jnp.where(convex, step, t), jnp.where(convex, 0, low)


def _beyond(v: Array, step: Array, gamma: Array) -> tuple[Array, Array]:
    # Between step and γ: x = (v − step)·γ/(γ − step) and v − x = step·(γ − v)/(γ − step).
    firm = v < gamma
    room = two_sum(gamma, -jnp.where(step < gamma, step, 0))
    x, _ = multiply(two_sum(v, -step), divide(single(gamma), room))
    shrinkage, _ = multiply(single(step), divide(two_sum(-v, gamma), room))
    return jnp.where(firm, x, v), jnp.where(firm, shrinkage, 0)


def _slopes(v: Array, x: Array, step: Array, gamma: Array) -> tuple[Array, Array, Array]:
    firm = v < gamma
    room = gamma - jnp.where(step < gamma, step, 0)
    in_v = gamma / room
    in_step, in_gamma = -in_v * ((gamma - v) / room), -(step / room) * ((v - step) / room)
    return jnp.where(firm, in_v, 1), jnp.where(firm, in_step, 0), jnp.where(firm, in_gamma, 0)


def _edge_slopes(step: Array, gamma: Array) -> tuple[Array, Array]:
    convex = step < gamma
    in_step, in_gamma = mean_root_slopes(step, gamma)
    return jnp.where(convex, 1, in_step), jnp.where(convex, 0, in_gamma)


@dataclasses.dataclass(frozen=True)
class MCP(Folded):
    r"""P(x) = Σ ρ(x_i), ρ(x) = |x| − x²/(2γ) up to γ and γ/2 beyond: the minimax concave penalty.

    With s = ``step``, prox is firm thresholding for s < γ: 0 up to t = s, γ(|v| − s)/(γ − s) up to γ, and v beyond. For
    s >= γ the objective is concave between 0 and γ; prox is 0 up to t = √(sγ), and v beyond. Large components are not
    shrunk. In the literature the penalty at level λ is λ²·ρ(x/λ), which at unit step is prox with s = λ and knot λγ.

    Args:
      gamma: the knot γ, finite and > 0; in a transformation also a schedule, a function of the step count.

    Raises:
      ValueError: if ``gamma`` is not finite or not positive.

    Source: C.-H. Zhang, Annals of Statistics 2010, arXiv 1002.4734, eq. 2.1; s >= γ by comparing 0 with v.

    Example:
      >>> MCP(2.0).prox(jnp.array([0.5, 1.5, -3.0]), 1.0).tolist()
      [0.0, 1.0, -3.0]
    """

    gamma: ArrayLike = 3.0
    name: ClassVar[str] = "mcp"
    rule: ClassVar[Rule] = Rule(_edge, _beyond, _slopes, _edge_slopes)

    def __post_init__(self) -> None:
        _checks.positive("gamma", self.gamma, schedule=True)

    def value(self, x: ArrayLike) -> Array:
        """Returns Σ ρ(x_i)."""
        size = jnp.minimum(jnp.abs(x), self.gamma)
        return jnp.sum(size * (1 - size / (2 * self.gamma)))
