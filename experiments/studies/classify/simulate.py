"""RVSM on logistic losses: lanes of one cell, with the Lagrangian watched at every step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import rvsmjax as rv
from rvsmjax.geometry import norm, tangent, unit

LABELS = ("random", "certain")
CERTAIN = "certain"


class Network(NamedTuple):
    """Sizes of the network and its data.

    Attributes:
      d: dimension of w.
      k: number of patches.
      m: number of inputs.
      scale: factor between output and logit.
      labels: name in ``LABELS``.
    """

    d: int
    k: int
    m: int
    scale: float
    labels: str

    def draw(self, key: Array) -> tuple[Array, Array, Array, Array]:
        """Returns w⁰ and w*, uniform on the sphere, Gaussian inputs (m, k, d) and labels 0 or 1."""
        start, inputs, chance = jax.random.split(key, 3)
        w_star, w = unit(jax.random.normal(start, (2, self.d)))
        x = jax.random.normal(inputs, (self.m, self.k, self.d))
        logits = self.logits(w_star, x)
        certain = (logits > 0).astype(x.dtype)
        drawn = jax.random.bernoulli(chance, jax.nn.sigmoid(logits)).astype(x.dtype)
        return w, w_star, x, certain if self.labels == CERTAIN else drawn

    def logits(self, w: Array, x: Array) -> Array:
        """Returns scale·(L(x; w) − b), b the mean of L(x; w*): both labels are about equally frequent."""
        return self.scale * (rv.NoOverlapReLU(self.k).forward(w, x) - 1 / jnp.sqrt(2 * jnp.pi))

    def loss(self, w: Array, x: Array, y: Array) -> Array:
        """Returns the mean logistic loss."""
        return jnp.mean(optax.sigmoid_binary_cross_entropy(self.logits(w, x), y))

    def learning_rate(self, beta: Array) -> Array:
        """Returns 1/(β + scale²/4): the logistic loss has second derivatives of at most 1/4."""
        return 1 / (beta + self.scale**2 / 4)


class Watched(NamedTuple):
    """State of a lane.

    Attributes:
      w: the iterate.
      opt_state: state of the chain.
      data: w*, inputs and labels.
      lagrangian: f(w) + λP(u) + (β/2)‖w − u‖².
      rise: its largest increase in a step.
      residual: norm of the force, its tangential part on the sphere.
    """

    w: Array
    opt_state: optax.OptState
    data: tuple[Array, Array, Array]
    lagrangian: Array
    rise: Array
    residual: Array


def run(network: Network, penalty: rv.Penalty, numbers: dict[str, Array], normalize: bool, steps: int) -> rv.Lanes:
    """Returns the outcome of lanes whose ``numbers`` are ``lam``, ``beta``, ``tol`` and ``key``."""
    init, step, done, measure = _functions(network, penalty, normalize)
    return rv.run_lanes(init, step, done, numbers, max_steps=steps, measure=measure)


@functools.lru_cache(maxsize=64)
def _functions(network: Network, penalty: rv.Penalty, normalize: bool) -> tuple[Callable[..., Any], ...]:
    def chain_of(n: dict[str, Array]) -> optax.GradientTransformationExtraArgs:
        split = rv.rvsm(penalty, n["lam"], n["beta"])
        links = [split, optax.sgd(network.learning_rate(n["beta"]))]
        return optax.chain(*links, rv.unit_sphere()) if normalize else optax.chain(*links)

    def look(w: Array, data: tuple[Array, Array, Array], n: dict[str, Array]) -> tuple[Array, Array]:
        _, x, y = data
        value, gradient = jax.value_and_grad(network.loss)(w, x, y)
        envelope = rv.moreau_envelope(penalty, w, n["lam"] / n["beta"])
        force = gradient + n["beta"] * penalty.shrinkage(w, n["lam"] / n["beta"])
        return value + n["beta"] * envelope, norm(tangent(w, force) if normalize else force)

    def init(n: dict[str, Array]) -> Watched:
        w, *data = network.draw(n["key"])
        value, residual = look(w, tuple(data), n)  # type: ignore[arg-type]
        return Watched(w, chain_of(n).init(w), tuple(data), value, jnp.full_like(value, -jnp.inf), residual)  # type: ignore[arg-type]

    def step(state: Watched, n: dict[str, Array]) -> Watched:
        _, x, y = state.data
        updates, opt_state = chain_of(n).update(jax.grad(network.loss)(state.w, x, y), state.opt_state, state.w)
        w = optax.apply_updates(state.w, updates)
        value, residual = look(w, state.data, n)
        rise = jnp.maximum(state.rise, value - state.lagrangian)
        return Watched(w, opt_state, state.data, value, rise, residual)

    def done(state: Watched, n: dict[str, Array]) -> Array:
        return (state.residual <= n["tol"]) | ~jnp.isfinite(state.residual)

    def measure(state: Watched, n: dict[str, Array]) -> dict[str, Array]:
        w_star, x, y = state.data
        u = penalty.prox(state.w, n["lam"] / n["beta"])
        right = jnp.mean((network.logits(state.w, x) > 0) == (y > 0.5))
        return {
            "theta_w": rv.angle(state.w, w_star),
            "theta_u": rv.angle(u, w_star),
            "zeros": jnp.sum(u == 0),
            "norm": norm(state.w),
            "loss": network.loss(state.w, x, y),
            "accuracy": right,
            "rise": state.rise,
            "residual": state.residual,
        }

    return init, step, done, measure


def keys(root: Array, seeds: int) -> Array:
    """Returns a key for each seed."""
    return jax.vmap(lambda seed: jax.random.fold_in(root, seed))(np.arange(seeds, dtype=np.uint32))
