"""The one-layer network with a sparse w*, as a problem that a sweep draws, solves and measures."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

import rvsmjax as rv
from rvsmjax.geometry import unit
from rvsmjax.problems.base import OneLayerProblem
from rvsmjax.sweep import Lane
from rvsmjax.sweep.grid import PROBLEMS


class Data(NamedTuple):
    """Data of a lane: w*, the one-layer problem with the lane's k, and prox(w*, λ/β)."""

    w_star: Array
    layer: OneLayerProblem
    thresholded: Array


class SparseTarget(rv.Problem):
    """Learning a w* with s = share·d components that are not zero, from w⁰ uniform on the sphere."""

    def draw(self, key: Array, lane: Any) -> tuple[Array, Data]:
        """Returns w⁰ and the data. Lanes with the same seed and d share w⁰; with the same s also w*."""
        start, values, places = jax.random.split(key, 3)
        w0 = unit(jax.random.normal(start, (lane.d,)))
        score = jax.random.uniform(places, (lane.d,))
        last = jnp.sort(score)[jnp.round(lane.share * lane.d).astype(int) - 1]
        w_star = unit(jnp.where(score <= last, jax.random.normal(values, (lane.d,)), 0))
        return w0, Data(w_star, layer(lane), lane.penalty.prox(w_star, lane.ratio))

    def loss(self, w: Array, data: Data) -> Array:
        """Returns the population loss."""
        return data.layer.loss(w, data.w_star)

    def grad(self, w: Array, data: Data, key: Array) -> Array:
        """Returns the population gradient, the coarse one with the binary activation."""
        return data.layer.grad(w, data.w_star)

    def measure(self, w: Array, u: Array, data: Data) -> dict[str, Array]:
        """Returns the errors of the support of u, the angles of w and u to w*, and what prox(w*, λ/β) attains.

        ``exact``: u has the support of w*. ``direct``: so has prox(w*, λ/β). ``smallest``: least |w*_i| on the support.
        """
        errors = support_errors(u, data.w_star)
        size = jnp.abs(data.w_star)
        return errors | {
            "exact": errors["false_zeros"] + errors["false_nonzeros"] == 0,
            "direct": jnp.all((data.thresholded != 0) == (data.w_star != 0)),
            "zeros": jnp.sum(u == 0),
            "theta_w": rv.angle(w, data.w_star),
            "theta_u": rv.angle(u, data.w_star),
            "smallest": jnp.min(jnp.where(size > 0, size, jnp.inf)),
        }


PROBLEM = SparseTarget()
"""The instance of all sweeps: programs are compiled once for the same instance."""


def support_errors(u: Array, w_star: Array) -> dict[str, Array]:
    """Returns the numbers of components that are zero in u alone, and in w* alone."""
    return {
        "false_zeros": jnp.sum((u == 0) & (w_star != 0)),
        "false_nonzeros": jnp.sum((u != 0) & (w_star == 0)),
    }


def layer(lane: Any) -> OneLayerProblem:
    """Returns the one-layer problem of a lane."""
    problem: OneLayerProblem = PROBLEMS[lane.activation](lane.k)
    return problem


def algorithm(lane: Lane) -> optax.GradientTransformation:
    """Returns RVSM on the sphere with the largest learning rate that the theorem of the activation allows."""
    split = rv.rvsm(lane.penalty, lane.ratio * lane.beta, lane.beta)
    return optax.chain(split, optax.sgd(layer(lane).largest_learning_rate(lane.beta)), rv.unit_sphere())
