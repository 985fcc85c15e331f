"""Images per second of LeNet-5 training: rvsmjax, with and without rvsm in the chain, and PyTorch.

All variants run in one process, in turns; the shortest time of each counts, excluding compilation.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import rvsmjax as rv
from benchmarks.transforms import in_turns
from experiments.data.labelled import Labelled
from experiments.studies.lenet.recipes import preparation
from experiments.training.programs import TrainState, make_step, split
from rvsmjax.nets import LeNet

Around = Callable[[optax.GradientTransformation], optax.GradientTransformation]


def before(link: optax.GradientTransformation) -> Around:
    """Returns the function that puts a link before an optimizer."""
    return lambda optimizer: optax.chain(link, optimizer)


CHAINS: dict[str, Around] = {
    "none": lambda optimizer: optimizer,
    "l1": before(rv.rvsm(rv.L1(), 1e-4, 1e-2)),
    "l0": before(rv.rvsm(rv.L0(), 1e-4, 1e-2)),
    "tl1": before(rv.rvsm(rv.TransformedL1(1.0), 1e-4, 1e-2)),
    "group lasso": before(rv.rvsm(rv.Grouped(rv.L1(), axes="filters"), 1e-4, 1e-2)),
    "l1, sparsity given": before(rv.rvsm(rv.L1(), sparsity=0.9, beta=1e-2)),
    "top-k, global, u every 10 steps": before(
        rv.rvsm(rv.TopK(sparsity=0.9, scope="global"), 1.0, 1e-2, update_every=10)
    ),
    "sparsify, pattern every 10 steps": lambda optimizer: rv.sparsify(
        optimizer, lambda _: 0.9, steps=10**6, update_every=10
    ),
    "sparsify": lambda optimizer: rv.sparsify(optimizer, lambda _: 0.9, steps=10**6),
}
RATE, MOMENTUM, STEPS = 1e-3, 0.9, 10
"""Settings of SGD, and steps per turn."""


def images(count: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """Returns images of shape (n, 28, 28, 1), uint8, and labels."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 28, 28, 1), np.uint8), rng.integers(0, 10, count)


def ours(tx: optax.GradientTransformation, batch: int) -> Callable[[], Any]:
    """Returns a turn of the experiments' loop."""
    pictures, labels = images()
    data = Labelled(jnp.asarray(pictures), jnp.asarray(labels, jnp.int32))
    graph, params, rest = split(LeNet(rngs=nnx.Rngs(0)))
    step = make_step(graph, tx.update, preparation(0), batch)
    order, key = jnp.asarray(np.random.default_rng(1).permutation(len(labels))), jax.random.key(0)
    held = TrainState(params, rest, tx.init(params)), jnp.zeros(2)
    places = [jnp.int32(i) for i in range(STEPS)]

    def turn() -> Any:
        nonlocal held
        for i in places:
            held = step(*held, data, order, i, key)
        return held

    return turn


def peers(batch: int) -> dict[str, Callable[[], Any]]:
    """Returns turns of PyTorch; empty if it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch
    from torch import nn

    pictures, labels = images()
    turns: dict[str, Callable[[], Any]] = {}
    for name, layout, compiled in (
        ("PyTorch", torch.contiguous_format, False),
        ("PyTorch, channels last", torch.channels_last, False),
        ("PyTorch, channels last, compiled", torch.channels_last, True),
    ):
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.ReLU()]
        net: Any = nn.Sequential(*layers, nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))
        net = net.to(memory_format=layout)
        optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
        forward = torch.compile(net) if compiled else net
        x = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=layout)
        y = torch.from_numpy(labels)
        order = torch.from_numpy(np.random.default_rng(1).permutation(len(labels)))

        def turn(net: Any = forward, optimizer: Any = optimizer, x: Any = x, y: Any = y, order: Any = order) -> None:
            for i in range(STEPS):
                rows = order[i * batch : (i + 1) * batch]
                optimizer.zero_grad()
                inputs = (x[rows].float() / 255 - 0.1307) / 0.3081
                torch.nn.functional.cross_entropy(net(inputs), y[rows]).backward()
                optimizer.step()

        turns[name] = turn
    return turns


def torch_version() -> str | None:
    """Returns PyTorch's version, or None."""
    return importlib.metadata.version("torch") if importlib.util.find_spec("torch") else None


def measure(batches: tuple[int, ...] = (64, 128), rounds: int = 12) -> dict[str, dict[str, float]]:
    """Returns the images per second of each variant, by batch size."""
    rates = {}
    for batch in batches:
        chains = {name: around(optax.sgd(RATE, momentum=MOMENTUM)) for name, around in CHAINS.items()}
        variants = {f"rvsmjax, {name}": ours(chain, batch) for name, chain in chains.items()} | peers(batch)
        seconds = in_turns(variants, rounds, turns=1)
        rates[f"batch {batch}"] = {name: STEPS * batch / time for name, time in seconds.items()}
    return rates


def table(record: dict[str, Any]) -> str:
    """Returns the record as Markdown, relative to rvsmjax without rvsm."""
    versions = record["versions"]
    rows = [
        f"{record['machine']}; Python {versions['python']}, JAX {versions['jax']}, PyTorch {versions['torch']}; "
        f"{record['date']}.",
        "",
    ]
    rows += ["| | | images/s | over ours without rvsm |", "|---|---|--:|--:|"]
    for batch, rates in record["results"].items():
        base = rates["rvsmjax, none"]
        rows += [f"| {batch} | {name} | {rate:,.0f} | {rate / base:.2f} |" for name, rate in rates.items()]
    return "\n".join(rows)
