"""Images per second of LeNet-5 training with the methods of others, beside those of the optimizer alone.

The loop is that of ``training.py``, with batches of 128; each method runs in turns with its optimizer alone. ``safe``
is left out: it takes two gradients a step.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import optax

import rvsmjax as rv
from benchmarks.training import MOMENTUM, RATE, STEPS, Around, before, ours
from benchmarks.transforms import in_turns
from experiments.records.environment import keep_memory
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


GROUPS: dict[str, tuple[dict[str, Around], optax.GradientTransformation, int, int]] = {
    "SGD with momentum": (AROUND, optax.sgd(RATE, momentum=MOMENTUM), 12, 2),
    "SGD with momentum, 100 steps in a row": (MOVED, optax.sgd(RATE, momentum=MOMENTUM), 4, 100 // STEPS),
    "Adam": (ADAM, optax.adam(RATE), 12, 2),
}
"""Methods, their optimizer, and the rounds and turns of each in a row of ``in_turns``."""


def measure() -> dict[str, dict[str, list[float]]]:
    """Returns the images per second of each optimizer alone and with each method.

    Each pair has a process of its own: the programs of many methods in one would share its caches and its heap.
    """
    return {
        name: {method: _in_own_process(name, method) for method in around if method != "none"}
        for name, (around, *_) in GROUPS.items()
    }


def _in_own_process(group: str, method: str) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.methods", group, method]
    output = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    pair: list[float] = json.loads(output)
    return pair


def _pair(group: str, method: str) -> list[float]:
    """Returns the images per second without and with a method."""
    keep_memory()  # as the studies do
    around, optimizer, rounds, turns = GROUPS[group]
    variants = {name: ours(around[name](optimizer), BATCH) for name in ("none", method)}
    return [STEPS * BATCH / seconds for seconds in in_turns(variants, rounds, turns).values()]


def table(record: dict[str, Any]) -> str:
    """Returns the record as Markdown, with the time of a step over that of the optimizer alone."""
    versions = record["versions"]
    rows = [
        f"{record['machine']}; Python {versions['python']}, JAX {versions['jax']}; {record['date']}.",
        "",
        "| optimizer | method | images/s, optimizer alone | images/s | time of a step over the optimizer's |",
        "|---|---|--:|--:|--:|",
    ]
    for optimizer, pairs in record["results"].items():
        rows += [
            f"| {optimizer} | {name} | {alone:,.0f} | {rate:,.0f} | {alone / rate:.2f} |"
            for name, (alone, rate) in pairs.items()
        ]
    return "\n".join(rows)


if __name__ == "__main__":
    print(json.dumps(_pair(*sys.argv[1:])))
