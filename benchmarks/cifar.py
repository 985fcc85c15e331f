"""Images per second of training on images of CIFAR-10's size: ours, PyTorch's, and several seeds side by side.

A step gathers a batch of uint8 images, crops and flips them at random, and makes a step of SGD with Nesterov momentum.
All variants run in one process, in turns, and the least time of each counts; compilation is apart. Ours are the
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
"""Images."""
TWINS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet18": ("resnet_twin", {"blocks": (2, 2, 2, 2), "width": 64}),
    "vgg16": ("vgg_twin", {"width": 64}),
    "slim": ("resnet_twin", {"blocks": (1, 1, 1), "width": 16}),
}


def images(count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    """Images of shape (n, 32, 32, 3), uint8, and labels."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count)


def images_per_second(
    net: str, method: str, *, batch: int = 128, dtype: str = "bfloat16", count: int = 50_000, epochs: int = 3
) -> list[float]:
    """Images per second of our training, an entry an epoch, evaluation and compilation apart.

    Args:
      net: a name of ``experiments.studies.cifar.recipes.NETS``.
      method: see ``experiments.studies.cifar.lowered.make_recipe``: ``"sgd"``, ``"l0"``, ``"admm"``.
      batch: images in a step.
      dtype: of the computation.
      count: images of an epoch; those that fill no batch are not counted.
      epochs: epochs timed, after one that is not.
    """
    recipe = make_recipe(net, method, batch, dtype)
    data = Labelled(*(jnp.asarray(array, kind) for array, kind in zip(images(count), ("uint8", "int32"), strict=True)))
    graph, update, (state,) = _start(recipe, 1, count)
    epoch = make_epoch(graph, update, recipe.preparation(), batch, whole=scans())
    found, key = [], jax.random.key(0)
    for number in range(1 + epochs):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(epoch(state, data, key, jnp.int32(number)))
        found.append(count // batch * batch / (time.perf_counter() - start))
    return found[1:]


def _start(recipe: CifarRecipe, seeds: int, count: int = COUNT) -> tuple[Any, Any, list[TrainState]]:
    """Graph, update and the states of some seeds."""
    states, update, graph = [], None, None
    for seed in range(seeds):
        network = CifarRecipe(net=recipe.net, dtype=recipe.dtype, seed=seed).make_network()
        graph, params, rest = split(network)
        tx = make_optimizer(recipe, count // recipe.batch, params)
        update = tx.update
        # Copies: what a step gives away must not be in two places.
        states.append(jax.tree.map(jnp.copy, TrainState(params, rest, tx.init(params))))
    return graph, update, states


def ours(recipe: CifarRecipe, steps: int, seeds: int = 1, way: str = "after another") -> Callable[[], Any]:
    """A turn of the experiments' loop for some seeds: one ``after another``, by ``vmap``, or in one ``program``."""
    pictures, labels = images()
    data = Labelled(jnp.asarray(pictures), jnp.asarray(labels, jnp.int32))
    graph, update, states = _start(recipe, seeds)
    step: Callable[..., Any] = make_step(graph, update, recipe.preparation(), recipe.batch)
    order = jnp.asarray(np.random.default_rng(1).permutation(COUNT))
    places, key = [jnp.int32(i) for i in range(steps)], jax.random.key(0)
    if way == "vmap":
        step = jax.jit(jax.vmap(step, (0, 0, None, None, None, None)), donate_argnums=(0, 1))
        held: list[Any] = [(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), jnp.zeros((seeds, 2)))]
    elif way == "program":
        together = jax.jit(
            lambda held, *others, one=step: [one(*own, *others) for own in held],
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
        for place, own in enumerate(held):
            for i in places:
                own = step(*own, data, order, i, key)
            held[place] = own
        return held

    return turn


def peers(net: str, batch: int, steps: int, short: bool) -> dict[str, Callable[[], Any]]:
    """Turns of PyTorch, on its GPU where it has one; none where it is not installed.

    Args:
      net: a name of ``TWINS``.
      batch: images in a step.
      steps: of a turn.
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
                inputs = (inputs.float() / 255).permute(0, 3, 1, 2)  # of NHWC memory: channels last
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
    """Images per second of each variant, by network; of all seeds together where there are several."""
    found = {}
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
        found[net] = {name: count * steps * batch / seconds[name] for name, (count, _) in variants.items()}
    return found


def table(record: dict[str, Any]) -> str:
    """The record as Markdown, each beside ours with SGD."""
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
