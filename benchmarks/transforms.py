"""What rvsm costs in an update, beside SGD with momentum.

All variants run in one process, in turns, and the least time of each counts; compilation is apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
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

SHAPES = [(3, 3, 512, 512)] * 3 + [(3, 3, 256, 256)] * 5 + [(3, 3, 128, 256)] * 3 + [(512, 100), (512,), (256,)]
"""11.0 M parameters in the leaves of a residual network."""


def in_turns(variants: dict[str, Callable[[], Any]], rounds: int, turns: int = 10) -> dict[str, float]:
    """Seconds of each variant: the least mean over some turns, taken in rounds so that all see the same machine."""
    best = dict.fromkeys(variants, float("inf"))
    for run in variants.values():
        jax.block_until_ready(run())
    for _ in range(rounds):
        for name, run in variants.items():
            jax.block_until_ready(run())  # alone: the threads of the one before may still be awake
            started = time.perf_counter()
            for _ in range(turns):
                jax.block_until_ready(run())
            best[name] = min(best[name], (time.perf_counter() - started) / turns)
    return best


def carried(step: Callable[[Any, Any], Any], first: Any, state: Any) -> Callable[[], Any]:
    """A run of ``step`` that goes on from the state of the last."""
    held = [first, state]

    def run() -> Any:
        held[0], held[1], *rest = step(*held)
        return held, rest

    return run


def chains() -> dict[str, optax.GradientTransformation]:
    """SGD with momentum, alone and behind rvsm."""
    sgd = optax.sgd(0.01, momentum=0.9)
    split = {name: optax.chain(rv.rvsm(penalty, 1e-4, 1e-2), sgd) for name, penalty in PENALTIES.items()}
    stale = rv.rvsm(PENALTIES["top-k, global"], 1e-4, 1e-2, update_every=10)
    return {"none": sgd, **split, "top-k, global, u every 10 steps": optax.chain(stale, sgd)}


def update_alone(rounds: int) -> dict[str, float]:
    """Seconds of an optimizer's update on 11 M parameters, and of rvsm's own."""
    keys = jax.random.split(jax.random.key(0), 2 * len(SHAPES)).reshape(2, -1)
    params, grads = ([jax.random.normal(k, s) * 0.05 for k, s in zip(ks, SHAPES, strict=True)] for ks in keys)
    alone = {f"{name}, rvsm alone": rv.rvsm(penalty, 1e-4, 1e-2) for name, penalty in PENALTIES.items()}

    def variant(tx: optax.GradientTransformation) -> Callable[[], Any]:
        # Gradients and parameters as arguments: as constants they would be folded away.
        update = jax.jit(tx.update)

        def step(held: Any, state: Any) -> Any:
            updates, state = update(held[0], state, held[1])
            return held, state, updates

        return carried(step, (grads, params), tx.init(params))

    return in_turns({name: variant(tx) for name, tx in {**chains(), **alone}.items()}, rounds)


def measure(rounds: int = 6) -> dict[str, dict[str, float]]:
    """Milliseconds of each variant."""
    found = {"update, 11 M parameters": update_alone(rounds)}
    return {what: {name: 1e3 * seconds for name, seconds in times.items()} for what, times in found.items()}


def table(record: dict[str, Any]) -> str:
    """The record as Markdown, each beside the one without rvsm."""
    rows = ["| | penalty | ms | over none |", "|---|---|--:|--:|"]
    for what, times in record["results"].items():
        rows += [f"| {what} | {name} | {ms:.2f} | {ms / times['none']:.2f} |" for name, ms in times.items()]
    return "\n".join(rows)
