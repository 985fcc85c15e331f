"""Images per second of training on images of CIFAR-10's size: rvsmjax, PyTorch, and several seeds at once.

A step gathers a batch of uint8 images, applies random crops and flips, and updates with SGD and Nesterov momentum. All
variants run in one process, in turns; the shortest time of each counts, excluding compilation. rvsmjax runs the
programs of the experiments: on an accelerator a turn is one program.
"""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.transforms import in_turns
from experiments.data.labelled import Labelled
from experiments.studies.cifar.lowered import make_recipe
from experiments.studies.cifar.recipes import PADDING, CifarRecipe, released
from experiments.training.programs import TrainState, make_epoch, make_step, scans, split
from experiments.training.recipes import make_optimizer

COUNT = 4096
"""Number of images."""
TWINS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet18": ("resnet_twin", {"blocks": (2, 2, 2, 2), "width": 64}),
    "vgg16": ("vgg_twin", {"width": 64}),
    "resnet20": ("resnet_twin", {"blocks": (3, 3, 3), "width": 16}),
    "slim": ("resnet_twin", {"blocks": (1, 1, 1), "width": 16}),
}


def images(count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    """Returns images of shape (n, 32, 32, 3), uint8, and labels."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count)


def images_per_second(
    net: str, method: str, *, batch: int = 128, dtype: str = "bfloat16", count: int = 50_000, epochs: int = 3
) -> list[float]:
    """Returns the images per second of our training, one entry per epoch, excluding evaluation and compilation.

    Args:
      net: a name of ``experiments.studies.cifar.recipes.NETS``.
      method: see ``experiments.studies.cifar.lowered.make_recipe``: ``"sgd"``, ``"l0"``, ``"admm"``.
      batch: batch size.
      dtype: dtype of the computation.
      count: images per epoch; an incomplete batch is not counted.
      epochs: number of timed epochs, after one warm-up epoch.
    """
    recipe = make_recipe(net, method, batch, dtype)
    data = Labelled(*(jnp.asarray(array, kind) for array, kind in zip(images(count), ("uint8", "int32"), strict=True)))
    graph, update, (state,) = _start(recipe, 1, count)
    epoch = make_epoch(graph, update, recipe.preparation(), batch, whole=scans())
    rates, key = [], jax.random.key(0)
    for number in range(1 + epochs):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(epoch(state, data, key, jnp.int32(number)))
        rates.append(count // batch * batch / (time.perf_counter() - start))
    return rates[1:]


def _start(recipe: CifarRecipe, seeds: int, count: int = COUNT) -> tuple[Any, Any, list[TrainState]]:
    """Returns the graph, the update and the states of some seeds."""
    states, update, graph = [], None, None
    for seed in range(seeds):
        network = CifarRecipe(net=recipe.net, dtype=recipe.dtype, seed=seed).make_network()
        graph, params, rest = split(network)
        tx = make_optimizer(recipe, count // recipe.batch, params)
        update = tx.update
        # Copies: a step donates its buffers, so no two states may share one.
        states.append(jax.tree.map(jnp.copy, TrainState(params, rest, tx.init(params))))
    return graph, update, states


def ours(recipe: CifarRecipe, steps: int, seeds: int = 1, way: str = "after another") -> Callable[[], Any]:
    """Returns a turn of the experiments' loop for some seeds: ``after another``, by ``vmap``, or in one ``program``."""
    pictures, labels = images()
    data = Labelled(jnp.asarray(pictures), jnp.asarray(labels, jnp.int32))
    graph, update, states = _start(recipe, seeds)
    step: Callable[..., Any] = make_step(graph, update, recipe.preparation(), recipe.batch)
    order = jnp.asarray(np.random.default_rng(1).permutation(COUNT))
    positions, key = [jnp.int32(i) for i in range(steps)], jax.random.key(0)
    if way == "vmap":
        step = jax.jit(jax.vmap(step, (0, 0, None, None, None, None)), donate_argnums=(0, 1))
        held: list[Any] = [(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), jnp.zeros((seeds, 2)))]
    elif way == "program":
        together = jax.jit(
            lambda held, *others, one=step: [one(*carry, *others) for carry in held],
            donate_argnums=0,
        )
        step = lambda held, total, *others: (together(held, *others), total)  # noqa: E731
        held = [([(state, jnp.zeros(2)) for state in states], None)]
    elif scans():
        part = Labelled(*(array[: steps * recipe.batch] for array in data))
        epoch = make_epoch(graph, update, recipe.preparation(), recipe.batch, whole=True)
        held = list(states)

        def whole_turn() -> Any:
            held[:] = [epoch(state, part, key, jnp.int32(0))[0] for state in held]
            return held

        return whole_turn
    else:
        held = [(state, jnp.zeros(2)) for state in states]

    def turn() -> Any:
        for index, carry in enumerate(held):
            for i in positions:
                carry = step(*carry, data, order, i, key)
            held[index] = carry
        return held

    return turn


def peers(net: str, batch: int, steps: int, short: bool) -> dict[str, Callable[[], Any]]:
    """Returns turns of PyTorch, on a GPU if it has one; empty if it is not installed.

    Args:
      net: a name of ``TWINS``.
      batch: batch size.
      steps: steps per turn.
      short: whether to compute in bfloat16.
    """
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch

    from tests.nets import twins

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.backends.cudnn.benchmark = True
    pictures, labels = images()
    name, sizes = TWINS[net]
    turns: dict[str, Callable[[], Any]] = {}
    for compiled in (False, True):
        torch.manual_seed(0)
        twin = getattr(twins, name)(torch, **sizes).to(device=device, memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
        forward = torch.compile(twin) if compiled else twin
        x = torch.from_numpy(np.pad(pictures, ((0, 0), (PADDING,) * 2, (PADDING,) * 2, (0, 0)))).to(device)
        y = torch.from_numpy(labels).to(device)
        order = torch.from_numpy(np.random.default_rng(1).permutation(COUNT)).to(device)
        span = torch.arange(32, device=device)

        def turn(
            forward: Any = forward,
            optimizer: Any = optimizer,
            x: Any = x,
            y: Any = y,
            order: Any = order,
            s: Any = span,
        ) -> None:
            for i in range(steps):
                rows = order[i * batch : (i + 1) * batch]
                down, right = torch.randint(0, 2 * PADDING + 1, (2, batch, 1), device=device)
                columns = torch.where(torch.rand(batch, 1, device=device) < 0.5, 31 - s, s) + right
                inputs = x[rows[:, None, None], (down + s)[:, :, None], columns[:, None, :]]
                inputs = (inputs.float() / 255).permute(0, 3, 1, 2)  # a view of NHWC memory: channels last
                optimizer.zero_grad()
                with torch.autocast(device, torch.bfloat16, enabled=short):
                    scores = forward(inputs)
                torch.nn.functional.cross_entropy(scores.float(), y[rows]).backward()
                optimizer.step()
            if device == "cuda":
                torch.cuda.synchronize()

        turns["PyTorch, channels last" + ", compiled" * compiled] = turn
    return turns


def measure(
    nets: tuple[str, ...], batch: int = 128, steps: int = 20, rounds: int = 6, seeds: int = 4, short: bool = True
) -> dict[str, dict[str, float]]:
    """Returns the images per second of each variant, by network; several seeds are added up."""
    rates = {}
    for net in nets:
        plain = functools.partial(released, net, batch=batch, dtype="bfloat16" if short else "float32")
        variants: dict[str, tuple[int, Callable[[], Any]]] = {
            "rvsmjax, sgd": (1, ours(plain("sgd", ""), steps)),
            "rvsmjax, rvsm l0": (1, ours(plain("rvsm", "l0"), steps)),
            "rvsmjax, admm": (1, ours(plain("admm", ""), steps)),
            **{name: (1, turn) for name, turn in peers(net, batch, steps, short).items()},
            **{
                f"{seeds} seeds, {way}": (seeds, ours(plain("rvsm", "l0"), steps, seeds, way))
                for way in ("after another", "vmap", "program")
            },
        }
        seconds = in_turns({name: turn for name, (_, turn) in variants.items()}, rounds, turns=1)
        rates[net] = {name: count * steps * batch / seconds[name] for name, (count, _) in variants.items()}
    return rates


def table(record: dict[str, Any]) -> str:
    """Returns the record as Markdown, relative to rvsmjax with SGD."""
    versions = record["versions"]
    devices = ", ".join(record["devices"])
    rows = [
        f"{record['machine']} ({devices}); Python {versions['python']}, JAX {versions['jax']}, PyTorch "
        f"{versions['torch']}; {record['date']}. Batches of {record['batch']}, {record['dtype']}.",
        "",
        "| | | images/s | over ours with SGD |",
        "|---|---|--:|--:|",
    ]
    for net, rates in record["results"].items():
        base = rates["rvsmjax, sgd"]
        rows += [f"| {net} | {name} | {rate:,.0f} | {rate / base:.2f} |" for name, rate in rates.items()]
    return "\n".join(rows)
