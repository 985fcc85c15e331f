"""The one-layer ReLU network with the squared loss on a sample of inputs, or on the population."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array

import rvsmjax as rv
from rvsmjax.geometry import unit
from rvsmjax.sweep import Lane

DEGREES = 5
"""Degrees of freedom of Student's law: the fewest with finite fourth moments."""
STEPS, MINIBATCH_STEPS = 400, 2000
"""Steps with label noise, and with minibatches."""

Data = tuple[Array, Array, Array]
"""w*, the inputs' patches (m, k, d) and the labels (m,)."""


def _student(key: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.t(key, float(DEGREES), shape) * ((DEGREES - 2) / DEGREES) ** 0.5


def _uniform(key: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.uniform(key, shape, minval=-(3**0.5), maxval=3**0.5)


def _signs(key: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.rademacher(key, shape, jnp.result_type(float))


LAWS: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "gaussian": jax.random.normal,
    "uniform": _uniform,
    "signs": _signs,
    "student": _student,
}
"""Samplers of components with mean 0 and variance 1."""


def patches(components: Array, k: int, d: int, stride: int) -> Array:
    """Returns the k patches of d components at this distance, of shape (m, k, d), of inputs (m, (k − 1)·stride + d)."""
    return jnp.stack([components[:, i * stride : i * stride + d] for i in range(k)], 1)


class SampledRisk(rv.Problem):
    """Random w* and w⁰ on the sphere, and a sample; lanes of equal seed share them in every cell but for the sample.

    Args:
      d: dimension of w.
      k: number of patches.
      law: name in ``LAWS``.
      m: sample size; 0 for the population loss, of Gaussian inputs without overlap.
      batch: inputs of a minibatch, 0 for the whole sample.
      stride: distance between patches.
      noisy: whether labels have noise. Then the risk has its minima where it has no derivative, between two pieces, so
        that no residual becomes small; as with minibatches the learning rate falls to 0 over a number of steps.
    """

    def __init__(
        self,
        d: int,
        k: int,
        law: str = "gaussian",
        m: int = 0,
        batch: int = 0,
        stride: int = 0,
        noisy: bool = False,
    ) -> None:
        self.d, self.k, self.law, self.m, self.batch, self.stride = d, k, law, m, batch, stride or d
        self.steps = MINIBATCH_STEPS if batch else STEPS if noisy else 0
        self.population = rv.NoOverlapReLU(k)

    def draw(self, key: Array, lane: Lane) -> tuple[Array, Data]:
        """Returns w⁰, and w*, inputs and labels."""
        start, inputs, labels = jax.random.split(key, 3)
        w_star, w = unit(jax.random.normal(start, (2, self.d)))
        length = (self.k - 1) * self.stride + self.d
        components = LAWS[self.law](jax.random.fold_in(inputs, self.m), (self.m, length))
        x = patches(components, self.k, self.d, self.stride)
        y = self.population.forward(w_star, x) + lane.noise * jax.random.normal(labels, (self.m,))
        return w, (w_star, x, y)

    def loss(self, w: Array, data: Data) -> Array:
        """Returns the mean squared error, or the population loss if m is 0."""
        w_star, x, y = data
        return self._error(w, x, y) if self.m else self.population.loss(w, w_star)

    def grad(self, w: Array, data: Data, key: Array) -> Array:
        """Returns the gradient on the whole sample, on a minibatch, or of the population."""
        w_star, x, y = data
        if not self.m:
            return self.population.grad(w, w_star)
        if self.batch:
            rows = jax.random.randint(key, (self.batch,), 0, self.m)
            x, y = x[rows], y[rows]
        return jax.grad(self._error)(w, x, y)

    def measure(self, w: Array, u: Array, data: Data) -> dict[str, Array]:
        """Returns w, u and w*."""
        return {"w": w, "u": u, "w_star": data[0]}

    def _error(self, w: Array, x: Array, y: Array) -> Array:
        return jnp.mean(jnp.square(self.population.forward(w, x) - y))


def by_descent(lane: Lane) -> optax.GradientTransformation:
    """RVSM on the sphere with the largest learning rate for the population loss, or from there along a cosine."""
    rate, steps = lane.problem.population.largest_learning_rate(lane.beta), lane.problem.steps
    scale = optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, steps)) if steps else optax.identity()
    return optax.chain(rv.rvsm(lane.penalty, lane.lam, lane.beta), scale, optax.sgd(rate), rv.unit_sphere())


@functools.cache
def after(steps: int) -> Callable[[Array, optax.OptState], Array]:
    """Returns the rule that a lane has ended after this number of steps."""

    def counted(w: Array, opt_state: optax.OptState) -> Array:
        ended: Array = opt_state[0].count >= steps
        return ended

    return counted
