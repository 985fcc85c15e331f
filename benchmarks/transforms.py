"""Cost of rvsm in an update, compared with SGD with momentum.

All variants run in one process, in turns; the shortest time of each counts, excluding compilation.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

import rvsmjax as rv

PENALTIES = {
    "l1": rv.L1(),
    "l0": rv.L0(),
    "tl1": rv.TransformedL1(1.0),
    "group lasso": rv.Grouped(rv.L1(), axes="filters"),
    "top-k, each leaf": rv.TopK(sparsity=0.9),
    "top-k, global": rv.TopK(sparsity=0.9, scope="global"),
}

RARELY, OFTEN = (f"l1, sparsity given, λ every {steps} steps" for steps in (100, 10))

SHAPES = [(3, 3, 512, 512)] * 3 + [(3, 3, 256, 256)] * 5 + [(3, 3, 128, 256)] * 3 + [(512, 100), (512,), (256,)]
"""Shapes of the leaves of a residual network, 11.0 M parameters."""
LARGE = [(2500, 2500)] * 16
"""100 M parameters."""


def in_turns(variants: dict[str, Callable[[], Any]], rounds: int, turns: int = 10) -> dict[str, float]:
    """Returns the seconds of each variant: the shortest mean of some turns, run in rounds under equal conditions."""
    best = dict.fromkeys(variants, float("inf"))
    for run in variants.values():
        jax.block_until_ready(run())
    for _ in range(rounds):
        for name, run in variants.items():
            jax.block_until_ready(run())  # untimed: threads of the previous variant may still be active
            started = time.perf_counter()
            for _ in range(turns):
                jax.block_until_ready(run())
            best[name] = min(best[name], (time.perf_counter() - started) / turns)
    return best


def carried(step: Callable[[Any, Any], Any], first: Any, state: Any) -> Callable[[], Any]:
    """Returns a run of ``step`` that continues from the state of the previous call."""
    held = [first, state]

    def run() -> Any:
        held[0], held[1], *rest = step(*held)
        return held, rest

    return run


def chains() -> dict[str, optax.GradientTransformation]:
    """Returns SGD with momentum, without rvsm and after it."""
    sgd = optax.sgd(0.01, momentum=0.9)
    split = {name: optax.chain(rv.rvsm(penalty, 1e-4, 1e-2), sgd) for name, penalty in PENALTIES.items()}
    stale = rv.rvsm(PENALTIES["top-k, global"], beta=1e-2, update_every=10)
    asked = {f"{name}, sparsity given": rv.rvsm(PENALTIES[name], sparsity=0.9, beta=1e-2) for name in ("l1", "l0")}
    asked[RARELY] = rv.rvsm(PENALTIES["l1"], sparsity=0.9, beta=1e-2, solve_every=100)
    asked[OFTEN] = rv.rvsm(PENALTIES["l1"], sparsity=0.9, beta=1e-2, solve_every=10)
    more = asked | {"top-k, global, u every 10 steps": stale}
    return {"none": sgd, **split, **{name: optax.chain(link, sgd) for name, link in more.items()}}


def update_alone(
    rounds: int, shapes: Sequence[tuple[int, ...]], chains: dict[str, optax.GradientTransformation], turns: int = 100
) -> dict[str, float]:
    """Returns the seconds in which each chain updates parameters of these shapes, in place: the mean of some steps."""
    keys = jax.random.split(jax.random.key(0), 2 * len(shapes)).reshape(2, -1)
    params, grads = ([jax.random.normal(k, s) * 0.05 for k, s in zip(ks, shapes, strict=True)] for ks in keys)

    def variant(tx: optax.GradientTransformation) -> Callable[[], Any]:
        # Gradients are an argument: as constants, XLA would fold them.
        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def update(params: Any, state: Any, grads: Any) -> Any:
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        first = [jnp.copy(leaf) for leaf in params]
        return carried(lambda params, state: update(params, state, grads), first, tx.init(first))

    return in_turns({name: variant(tx) for name, tx in chains.items()}, rounds, turns)


def measure(rounds: int = 6) -> dict[str, dict[str, float]]:
    """Returns the milliseconds of each variant."""
    alone = {f"{name}, rvsm alone": rv.rvsm(penalty, 1e-4, 1e-2) for name, penalty in PENALTIES.items()}
    few = (
        "none",
        "l1",
        "l0",
        "l1, sparsity given",
        "l0, sparsity given",
        RARELY,
        OFTEN,
        "top-k, global, u every 10 steps",
    )
    times_by_case = {
        "update, 11 M parameters": update_alone(rounds, SHAPES, chains() | alone),
        "update, 100 M parameters": update_alone(2, LARGE, {name: chains()[name] for name in few}),
    }
    return {what: {name: 1e3 * seconds for name, seconds in times.items()} for what, times in times_by_case.items()}


def table(record: dict[str, Any]) -> str:
    """Returns the record as Markdown, relative to the variant without rvsm."""
    rows = ["| | penalty | ms | over none |", "|---|---|--:|--:|"]
    for what, times in record["results"].items():
        rows += [f"| {what} | {name} | {ms:.2f} | {ms / times['none']:.2f} |" for name, ms in times.items()]
    return "\n".join(rows)
