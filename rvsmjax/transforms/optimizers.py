"""What suits an optimizer, by the operations in its program: defaults of ``sparsify``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from rvsmjax._programs import operations


class Defaults(NamedTuple):
    """Defaults of ``sparsify`` for a kind of optimizer.

    Attributes:
      dense: whether it sees the gradient of all components.
      rate: factor of the steps of the zero components.
      end: share of the training after which the sparsity has its final value.
      powers: until then, the sparsity that is missing decreases as (1 − progress)**power, with the first power up to
        the first of ``shares`` and the second from the second on.
      shares: two fractions of zeros.
      revives: whether zero components move where an output (a neuron, a filter) has no nonzero ones.
    """

    dense: bool
    rate: float
    end: float
    powers: tuple[int, int]
    shares: tuple[float, float] = (0.8, 0.9)
    revives: bool = True

    def ramp(self, sparsity: ArrayLike, end: int) -> optax.Schedule:
        """Returns the schedule that reaches a sparsity at step ``end`` >= 1."""
        low, high = self.powers
        rising = low != high
        power = jnp.interp(jnp.asarray(sparsity), jnp.array(self.shares), jnp.array(self.powers)) if rising else low
        return optax.polynomial_schedule(0.0, sparsity, power, end)


PLAIN = Defaults(True, 0.3, 2 / 3, (3, 3), revives=False)
"""Steps proportional to the gradient, as in SGD: at full speed its noise lets too many zero components return. A filter
without weights gives no variance, and a batch normalization behind it divides its gradient by the root of ε: 300 times
too long a step."""
SCALED = Defaults(True, 1.0, 2 / 3, (3, 5), (0.9, 0.95))
"""Steps divided by the root of a second moment, as in Adam. The more is pruned, the more time it takes to regain."""
BOUNDED = Defaults(False, 1.0, 3 / 4, (5, 5))
"""Signs or matrix products, as in Lion and Muon. The steps do not grow with the loss: what pruning costs must be
regained before the learning rate falls."""
FACTORED = Defaults(False, 1.0, 3 / 4, (3, 5))
"""Factored second moments, as in Adafactor."""


def defaults_for(update: Callable[[], object], state: optax.OptState, shapes: Collection[tuple[int, ...]]) -> Defaults:
    """Returns what suits an optimizer.

    Args:
      update: the optimizer's update.
      state: its state.
      shapes: those of the parameters. An operation counts if its result has one of them: norms do not.
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, optax.FactoredState))
    if any(isinstance(node, optax.FactoredState) for node in nodes):
        return FACTORED
    used = set(operations(jax.make_jaxpr(update)()))
    if any(name == "dot_general" and len(shape) > 1 for name, shape in used):
        return BOUNDED
    names = {name for name, shape in used if shape in shapes}
    # Yogi takes both roots and signs.
    return SCALED if names & {"sqrt", "rsqrt", "pow"} else BOUNDED if "sign" in names else PLAIN
