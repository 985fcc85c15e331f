"""Trajectories of RVSM: the quantity of each stopping rule at every step, and the steps at which it stops."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import rvsmjax as rv
from rvsmjax.geometry import norm, unit

from ...papers import arxiv_1812_05719 as paper
from ...penalties.registry import find
from ...records.lanes import Numbers, drawn, lane_keys, map_tiles

LAWS = {"sphere": jax.random.normal, "positive": jax.random.uniform}
"""Distribution of the components before normalisation."""

STATE = ("theta_w", "f_w", "theta_u", "f_u", "zeros", "lagrangian", "penalty", "norm_u", "gap", "gamma")
ROWS = max(paper.DIMENSIONS)
"""Vectors are padded with zeros, which stay zero, so all d share a program."""

MOVES = ("w_2", "w_1", "w_max", "w_rel", "u_2")

RULES = {
    "steps": "number of steps",
    "w_2": "‖Δw‖₂",
    "w_1": "‖Δw‖₁",
    "w_max": "max |Δwᵢ|",
    "w_rel": "max |Δwᵢ/wᵢ|",
    "u_2": "‖Δu‖₂",
    "lagrangian": "|ΔL|",
    "lagrangian_rel": "|ΔL|/L",
    "f_w": "|Δf(w)|",
    "f_w_rel": "|Δf(w)|/f(w)",
    "f_u": "|Δf(u)|",
    "f_u_rel": "|Δf(u)|/f(u)",
    "penalty": "|ΔP(u)|",
    "norm_u": "|Δ‖u‖|",
    "gap": "|Δ‖w − u‖|",
    "gamma": "|Δ∠(w,u)|",
    "theta_w": "|Δθ(w,w*)|",
    "theta_u": "|Δθ(u,w*)|",
    "product": "‖Δw‖₂·∠(w,u)",
}
"""Quantities of the stopping rules: a run stops after the first step in which the quantity is below the tolerance.

``MADE_TO_FIT`` is not a plausible rule: it was constructed from the printed numbers and shows what they have in common.
"""

MADE_TO_FIT = RULES["product"]


class Setting(NamedTuple):
    """Assumptions on what the paper does not state: distributions of w* and w⁰, learning rate."""

    w_star: str
    w0: str
    learning_rate: float


class Lane(NamedTuple, Generic[Numbers]):
    """Random problems; fields have a leading lane axis."""

    w_star: Numbers
    w0: Numbers
    learning_rate: Numbers


Observed = tuple[tuple[Array, ...], tuple[Array, ...]]
"""``STATE`` and ``MOVES``."""


def trajectories(setting: Setting, name: str, d: int, seeds: int, key: Array, time: float) -> dict[str, np.ndarray]:
    """Returns ``STATE`` after steps 0 … T and ``MOVES`` in steps 1 … T, of shape (seeds, T + 1) and (seeds, T).

    λ, β, k and a are the paper's; T·η is ``time``. Penalties share the w* and w⁰ of a seed.
    """
    keys = [lane_keys(key, np.arange(seeds), stream) for stream in (2 * d, 2 * d + 1)]
    laws = (LAWS[setting.w_star], LAWS[setting.w0])
    vectors = (drawn(law, key, (ROWS,)) for law, key in zip(laws, keys, strict=True))
    w_star, w0 = (unit(jnp.where(jnp.arange(ROWS) < d, v, 0)) for v in vectors)
    program = _program(name, round(time / setting.learning_rate))
    state, moves = map_tiles(program, Lane(w_star, w0, np.full(seeds, setting.learning_rate)))
    run = dict(zip((*STATE, *(f"move_{name}" for name in MOVES)), (*state, *moves), strict=True))
    return run | {"zeros": run["zeros"] - (ROWS - d)}


def watched(run: dict[str, np.ndarray], rule: str) -> np.ndarray:
    """Returns the quantity of a rule in steps 1 … T, of shape (seeds, T); decreasing for "steps"."""
    if rule == "steps":
        return np.broadcast_to(-0.5 - np.arange(1.0, run["theta_w"].shape[1]), run["move_w_2"].shape)
    if rule in MOVES:
        return run[f"move_{rule}"]
    if rule == "product":
        return run["move_w_2"] * run["gamma"][:, 1:]
    name = rule.removesuffix("_rel")
    change = np.abs(np.diff(run[name], axis=1))
    return change / np.maximum(np.abs(run[name][:, 1:]), 1e-300) if rule.endswith("_rel") else change


def stops(values: np.ndarray, tolerances: np.ndarray) -> np.ndarray:
    """Returns the step at which each run stops at each tolerance, of shape (seeds, tolerances), at most T.

    Args:
      values: quantity of the rule, of shape (seeds, T).
      tolerances: in ascending order.
    """
    lowest = np.minimum.accumulate(values, axis=1)
    first = [np.searchsorted(-row, -tolerances, side="right") + 1 for row in lowest]
    return np.minimum(np.asarray(first), values.shape[1])


@functools.lru_cache(maxsize=64)
def _program(name: str, steps: int) -> Callable[[Lane[Array]], Observed]:
    """Returns the run of a tile; cached, so it compiles once."""
    penalty = find(name)(paper.SETTING["a"])
    problem = rv.NoOverlapReLU(paper.SETTING["k"])
    lam, beta = paper.SETTING["lam"], paper.SETTING["beta"]

    def observe(w: Array, w_star: Array) -> tuple[Array, ...]:
        u = penalty.prox(w, lam / beta)
        value = lam * penalty.value(u) + beta / 2 * jnp.sum((w - u) ** 2)
        loss = problem.loss(w, w_star)
        angles = rv.angle(w, w_star), rv.angle(u, w_star), rv.angle(w, u)
        zeros = jnp.sum(u == 0).astype(w.dtype)
        sizes = penalty.value(u), norm(u), norm(w - u)
        return angles[0], loss, angles[1], problem.loss(u, w_star), zeros, loss + value, *sizes, angles[2]

    def lane(lane: Lane[Array]) -> Observed:
        split = rv.rvsm(penalty, lam, beta)
        chain = optax.chain(split, optax.sgd(lane.learning_rate), rv.unit_sphere())
        opt_state = chain.init(lane.w0)

        def step(w: Array, _: None) -> tuple[Array, Observed]:
            updates, _ = chain.update(problem.grad(w, lane.w_star), opt_state, w)
            new = optax.apply_updates(w, updates)
            move = jnp.abs(new - w)
            change = penalty.prox(new, lam / beta) - penalty.prox(w, lam / beta)
            relative = jnp.where(new == 0, 0, move / jnp.where(new == 0, 1, jnp.abs(new)))
            moves = norm(move), jnp.sum(move), jnp.max(move), jnp.max(relative), norm(change)
            return new, (observe(new, lane.w_star), moves)

        _, (states, moves) = jax.lax.scan(step, lane.w0, length=steps)
        first = observe(lane.w0, lane.w_star)
        return tuple(jnp.concatenate([a[None], b]) for a, b in zip(first, states, strict=True)), moves

    return jax.vmap(lane)
