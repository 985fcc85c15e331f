"""``run_lanes`` and ``vmap`` of a ``while_loop``: lanes of very different lengths, and of equal ones.

Three steps of different cost: RVSM with Adam and ADMM on the one-layer problem, and Newton's method with damping on a
logistic regression. A lane ends after a number of steps of its own, so both run the same steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import rvsmjax as rv

D, K = 20, 10
POINTS = 64
PROBLEM = rv.NoOverlapReLU(K)


def by_chain(chain: Callable[[Any], optax.GradientTransformation]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns the start and step of an optimizer on the one-layer problem."""

    def init(numbers: Any) -> Any:
        w, w_star = jax.random.normal(jax.random.key(numbers["seed"]), (2, D))
        w, w_star = w / jnp.linalg.norm(w), w_star / jnp.linalg.norm(w_star)
        return w, w_star, chain(numbers).init(w)

    def step(state: Any, numbers: Any) -> Any:
        w, w_star, opt_state = state
        updates, opt_state = chain(numbers).update(PROBLEM.grad(w, w_star), opt_state, w)
        return optax.apply_updates(w, updates), w_star, opt_state

    return init, step


def newton() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns the start and step of damped Newton on a logistic regression of D weights and POINTS points."""
    x = jax.random.normal(jax.random.key(0), (POINTS, D))

    def init(numbers: Any) -> Any:
        labels = jax.random.bernoulli(jax.random.key(numbers["seed"]), 0.5, (POINTS,))
        return jnp.zeros(D), labels.astype(x.dtype)

    def step(state: Any, numbers: Any) -> Any:
        w, labels = state
        p = jax.nn.sigmoid(x @ w)
        gradient = x.T @ (p - labels) / POINTS + numbers["lam"] * w
        hessian = (x.T * (p * (1 - p))) @ x / POINTS + (numbers["lam"] + 0.1) * jnp.eye(D)
        return w - 0.1 * jnp.linalg.solve(hessian, gradient), labels

    return init, step


STEPS = {
    "RVSM with Adam": (
        by_chain(lambda n: optax.chain(rv.rvsm(rv.L1(), n["lam"], 0.1), optax.adam(1e-3))),
        10_000,
        20_000,
    ),
    "ADMM": (by_chain(lambda n: optax.chain(rv.admm(rv.L1(), rho=0.1, lam=n["lam"]), optax.sgd(0.1))), 10_000, 20_000),
    "Newton, logistic regression": (newton(), 1_000, 4_000),
}
"""Start and step, number of lanes, longest lane; the last solves a linear system in LAPACK, which takes long."""


def pareto(lanes: int, mean: float = 200, longest: int = 20_000) -> np.ndarray:
    """Returns numbers of steps from a Pareto law of exponent 1.15, cut off, scaled to a mean."""
    tail = np.random.default_rng(0).pareto(1.15, lanes) + 1
    low, high = 0.0, mean
    for _ in range(60):
        scale = (low + high) / 2
        low, high = (scale, high) if np.minimum(tail * scale, longest).mean() < mean else (low, scale)
    return np.minimum(tail * scale, longest).astype(np.int32)


def compare(
    init: Callable[..., Any], step: Callable[..., Any], lengths: np.ndarray, rounds: int
) -> dict[str, float | int]:
    """Returns seconds of both, of compilation, and the waste of both."""

    def first(numbers: Any) -> Any:
        return init(numbers), jnp.int32(0)

    def counted(state: Any, numbers: Any) -> Any:
        return step(state[0], numbers), state[1] + 1

    def done(state: Any, numbers: Any) -> Array:
        return state[1] >= numbers["steps"]

    lanes = len(lengths)
    numbers = {
        "steps": jnp.asarray(lengths),
        "seed": jnp.arange(lanes),
        "lam": jnp.logspace(-5, -3, lanes, dtype="float32"),
    }

    @jax.jit
    @jax.vmap
    def vmapped(numbers: Any) -> Any:
        return jax.lax.while_loop(lambda s: ~done(s, numbers), lambda s: counted(s, numbers), first(numbers))

    def ours() -> rv.Lanes:
        return rv.run_lanes(first, counted, done, numbers, max_steps=100_000)

    started = time.perf_counter()
    result = jax.block_until_ready(ours())
    compiled = time.perf_counter() - started
    theirs = jax.block_until_ready(vmapped(numbers))
    np.testing.assert_array_equal(result.steps, lengths)
    for a, b in zip(jax.tree.leaves(result.values), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-3)
    seconds = {"run_lanes": float("inf"), "vmap of while_loop": float("inf")}
    for _ in range(rounds):
        for name, run in zip(seconds, (ours, lambda: vmapped(numbers)), strict=True):
            started = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    return {
        **seconds,
        "first call": compiled,
        "waste": float(result.executed) / int(lengths.sum()),
        "waste of vmap": lanes * int(lengths.max()) / int(lengths.sum()),
    }


def measure(rounds: int = 3) -> dict[str, Any]:
    """Returns the comparison of each step, with lengths of a Pareto law and equal ones."""
    results = {}
    for name, (pair, lanes, longest) in STEPS.items():
        for law, lengths in (
            (f"Pareto to {longest:,}", pareto(lanes, longest=longest)),
            ("equal", np.full(lanes, 200, np.int32)),
        ):
            results[f"{name}; {lanes:,} lanes, {law}"] = compare(*pair, lengths, rounds)
    return results


def table(record: dict[str, Any]) -> str:
    """Returns the record as Markdown."""
    rows = [
        f"{record['machine']}; JAX {record['versions']['jax']}; {record['date']}.",
        f"{len(record['devices'])} devices for `run_lanes`, one a core; the program of `vmap` takes all cores.",
        "Lanes of 200 steps in the mean; seconds, the shortest of three.",
        "",
        "| step; lanes, their lengths | run_lanes | vmap of while_loop | ours over it | waste | first call |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, r in record["results"].items():
        ours, theirs = r["run_lanes"], r["vmap of while_loop"]
        rows.append(
            f"| {name} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.2f} × | {r['waste']:.2f} (vmap "
            f"{r['waste of vmap']:.0f}) | {r['first call']:.1f} |"
        )
    return "\n".join(rows)
