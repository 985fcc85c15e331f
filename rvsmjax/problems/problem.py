"""The interface of a problem that a sweep draws, solves and measures lane by lane."""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax._pytree import PyTree


class Problem(abc.ABC):
    """A loss with a gradient, with the start and the data of a lane and what is measured at its end.

    A lane has the values on the axes of its grid as attributes, numbers traced: ``lane.noise``. The instance itself may
    hold what all lanes share, such as a data set. Programs are compiled once for the same instance.

    Example:
      >>> import rvsmjax as rv
      >>> class Denoising(rv.Problem):
      ...     def draw(self, key, lane):
      ...         signal = jnp.where(jnp.arange(50) < 5, 1.0, 0.0)
      ...         seen = signal + lane.noise * jax.random.normal(key, (50,))
      ...         return jnp.zeros(50), seen
      ...     def loss(self, w, seen):
      ...         return jnp.sum((w - seen) ** 2) / 2
      >>> grid = rv.Grid(problem=Denoising(), axes={"noise": [0.01, 0.1]}, seeds=3)
      >>> rvsm = lambda lane: optax.chain(rv.rvsm(rv.L1(), 0.3, 10.0), optax.sgd(0.05))
      >>> result = rv.run_sweep(grid, algorithm=rvsm)
      >>> result.data["zeros"].tolist()
      [[45, 45, 45], [45, 45, 45]]
    """

    @abc.abstractmethod
    def draw(self, key: Array, lane: Any) -> tuple[PyTree, PyTree]:
        """Returns the start w⁰ of a lane, a tree of floating-point arrays, and its data, a tree of arrays.

        Args:
          key: the lane's key, from the sweep's and the seed.
          lane: the values on the grid's axes, as attributes.
        """

    @abc.abstractmethod
    def loss(self, w: PyTree, data: PyTree) -> Array:
        """Returns the loss at w, a scalar."""

    def grad(self, w: PyTree, data: PyTree, key: Array) -> PyTree:
        """Returns the gradient in w. Defaults to that of ``loss``.

        Args:
          w: the parameters.
          data: the data of the lane.
          key: a key of the lane's step, for a gradient on a random sample.
        """
        del key
        return jax.grad(self.loss)(w, data)

    def measure(self, w: PyTree, u: PyTree, data: PyTree) -> dict[str, Array]:
        """Returns what the result holds of a lane, a dictionary of arrays of fixed shapes, mostly scalars.

        Defaults to the losses ``f_w`` and ``f_u``, the number ``zeros`` of zero components of u, and ``gap``, ‖w − u‖.
        """
        gap = optax.tree.norm(jax.tree.map(jnp.subtract, w, u))
        zeros = sum(jnp.sum(x == 0) for x in jax.tree.leaves(u))
        return {"f_w": self.loss(w, data), "f_u": self.loss(u, data), "zeros": jnp.asarray(zeros), "gap": gap}
