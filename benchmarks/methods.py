"""Images per second of LeNet-5 training with the methods of others, beside those of the optimizer alone.

The loop is that of ``training.py``, with batches of 128; all variants run in one process, in turns. ``safe`` is left
out: it takes two gradients a step.
"""

from __future__ import annotations

from typing import Any

import optax

import rvsmjax as rv
from benchmarks.training import MOMENTUM, RATE, STEPS, Around, before, ours
from benchmarks.transforms import in_turns
from rvsmjax import methods

BATCH, LONG = 128, 10**6
"""Images a step, and steps of the training of which a piece is measured."""
TOP = rv.TopK(sparsity=0.9, scope="global")


def _divisible(path: str) -> bool:
    """Returns whether a leaf is a kernel whose inputs are a multiple of four: not that of the first convolution."""
    return path.endswith("kernel") and "conv1" not in path


AROUND: dict[str, Around] = {
    "none": lambda optimizer: optimizer,
    "magnitude": lambda optimizer: optax.chain(optimizer, methods.gradual_pruning(TOP)),
    "magnitude, every 10 steps": lambda optimizer: optax.chain(optimizer, methods.gradual_pruning(TOP, every=10)),
    "sparsify": lambda optimizer: rv.sparsify(optimizer, lambda _: 0.9, steps=LONG),
    "sparsify, pattern every 10 steps": lambda optimizer: rv.sparsify(
        optimizer, lambda _: 0.9, steps=LONG, update_every=10
    ),
    "rvsm, l0, sparsity given": before(rv.rvsm(rv.L0(), sparsity=0.9, beta=0.1)),
    "admm": before(rv.admm(TOP, 0.01, dual_every=10)),
    "rigl, every 10 steps": lambda optimizer: methods.rigl(optimizer, 0.9, steps=LONG, every=10),
    "sparse_evolution, every 10 steps": lambda optimizer: methods.sparse_evolution(
        optimizer, 0.9, steps=LONG, every=10
    ),
    "ac_dc": lambda optimizer: methods.ac_dc(optimizer, TOP, steps=LONG, warm_up=1, period=20),
    "proximal, l1": lambda optimizer: methods.proximal(optimizer, rv.L1(), 1e-4, rate=RATE),
    "bregman, l1": lambda optimizer: methods.bregman(optimizer, rv.L1(), 1e-4),
    "sr_ste, 2:4": lambda optimizer: methods.sr_ste(optimizer, 2, 4, mask=_divisible),
    "soft_threshold_reparametrization": methods.soft_threshold_reparametrization,
}
MOVED: dict[str, Around] = {
    "none": lambda optimizer: optimizer,
    "rigl": lambda optimizer: methods.rigl(optimizer, 0.9, steps=LONG),
    "sparse_evolution": lambda optimizer: methods.sparse_evolution(optimizer, 0.9, steps=LONG),
}
"""With their defaults, which are those of the paper: the pattern moves in every hundredth step."""
ADAM: dict[str, Around] = {
    "none": lambda optimizer: optimizer,
    "elsa, every 32 steps": lambda optimizer: methods.elsa(optimizer, 0.9, 0.01),
}


def measure(rounds: int = 12) -> dict[str, dict[str, float]]:
    """Returns the images per second of each method, by optimizer."""
    sgd, adam = optax.sgd(RATE, momentum=MOMENTUM), optax.adam(RATE)
    groups = {
        "SGD with momentum": (AROUND, sgd, 2),
        "SGD with momentum, 100 steps in a row": (MOVED, sgd, 100 // STEPS),
        "Adam": (ADAM, adam, 2),
    }
    rates = {}
    for name, (around, optimizer, turns) in groups.items():
        variants = {method: ours(make(optimizer), BATCH) for method, make in around.items()}
        seconds = in_turns(variants, rounds if turns < 10 else rounds // 3, turns)
        rates[name] = {method: STEPS * BATCH / time for method, time in seconds.items()}
    return rates


def table(record: dict[str, Any]) -> str:
    """Returns the record as Markdown, with the time of a step over that of the optimizer alone."""
    versions = record["versions"]
    rows = [
        f"{record['machine']}; Python {versions['python']}, JAX {versions['jax']}; {record['date']}.",
        "",
        "| | | images/s | time of a step over none |",
        "|---|---|--:|--:|",
    ]
    for optimizer, rates in record["results"].items():
        rows += [f"| {optimizer} | {name} | {rate:,.0f} | {rates['none'] / rate:.2f} |" for name, rate in rates.items()]
    return "\n".join(rows)
