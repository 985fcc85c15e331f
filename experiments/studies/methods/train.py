"""One training of the comparison."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from flax import nnx
from jax import Array

import rvsmjax as rv
from rvsmjax._pytree import PyTree

from ...records.environment import describe
from ...records.folder import BadInput, Facts
from ...training.programs import SETTLE_STEPS, Graph, split
from .config import BY_HAND, FROZEN, SPLITTINGS, TUNED, Setting
from .methods import Phase, phases
from .tasks import TASKS, Task, evaluate, loss

FIRST_LAM, TRAININGS, CLOSE = 1e-4, 14, 2e-3
"""λ by whole trainings: the first one, the most trainings, and the distance from the sparsity at which they end."""

Carry = tuple[optax.Params, PyTree, optax.OptState]
Step = Callable[[Carry, PyTree, Array, int], tuple[Carry, Array]]


class Trained(NamedTuple):
    """The end of a phase: network, state, last loss, seconds of a step without compilation, bytes of the state."""

    params: optax.Params
    rest: PyTree
    state: optax.OptState
    loss: float
    seconds: float
    state_bytes: int


@functools.cache
def load(network: str, folder: Path | None) -> tuple[PyTree, PyTree, PyTree]:
    """Returns training, validation and test data of a network."""
    return TASKS[network].load(folder)


def train(setting: Setting, folder: Path | None) -> Facts:
    """Returns settings and results of a training; of the closest of several where λ is found by whole trainings.

    Raises:
      BadInput: see ``train_once``.
    """
    if setting.method not in BY_HAND:
        return train_once(setting, folder)

    def miss(outcome: Facts) -> float:
        # Where λ is too large the training may diverge.
        return np.inf if "diverged" in outcome else float(outcome["zeros"] / outcome["size"] - setting.sparsity)

    low, high, lam = 0.0, np.inf, FIRST_LAM
    outcomes: list[Facts] = []
    while len(outcomes) < TRAININGS:
        outcomes.append(train_once(setting, folder, lam) | {"lam": lam})
        if abs(miss(outcomes[-1])) < CLOSE:
            break
        low, high = (lam, high) if miss(outcomes[-1]) < 0 else (low, lam)
        lam = 8 * low if high == np.inf else high / 8 if low == 0 else (low * high) ** 0.5
    return min(outcomes, key=lambda outcome: abs(miss(outcome))) | {"trainings": len(outcomes)}


def train_once(setting: Setting, folder: Path | None, lam: float | None = None, rate: float | None = None) -> Facts:
    """Returns settings and results of a training.

    Args:
      setting: the training.
      folder: folder of the image files.
      lam: λ, for a method with a fixed one.
      rate: learning rate; None for that of the network and optimizer.

    Raises:
      BadInput: the loss is no longer finite where nothing is chosen, or images are missing.
    """
    task = TASKS[setting.network]
    rate = task.rates[setting.optimizer] if rate is None else rate
    parts = load(setting.network, folder)
    init_key, data_key = jax.random.split(jax.random.fold_in(jax.random.key(setting.key), setting.seed))
    graph, params, rest = split(task.make(nnx.Rngs(params=init_key)))
    whole, *fine_tuning = phases(setting, rate, lam)
    first = end = _run(task, graph, whole, params, rest, parts[0], data_key)
    before = {}
    if not _is_finite(end, setting):
        return _diverged(setting, rate, end.loss)
    if setting.method in (TUNED, *FROZEN, *SPLITTINGS, *BY_HAND):
        u = rv.sparse_params(first.state, first.params)
        end = first._replace(params=u, rest=_settled(task, graph, u, first.rest, parts[0], data_key))
    for phase in fine_tuning:
        before = {f"before_test_{name}": x for name, x in evaluate(graph, end.params, end.rest, parts[2]).items()}
        end = _run(task, graph, phase, end.params, end.rest, parts[0], data_key, whole.steps)
    if not _is_finite(end, setting):
        return _diverged(setting, rate, end.loss)
    zeros = rv.sparsity(end.params).total
    validation, test = (evaluate(graph, end.params, end.rest, part) for part in parts[1:])
    return {
        "settings": {**vars(setting), "learning_rate": rate, "batch": task.batch},
        "zeros": int(zeros.zeros),
        "size": int(zeros.size),
        "train_loss": end.loss,
        **{f"validation_{name}": x for name, x in validation.items()},
        **{f"test_{name}": x for name, x in test.items()},
        **before,
        "milliseconds_per_step": 1e3 * first.seconds,
        "state_bytes": first.state_bytes,
        **{name: fact for name, fact in describe().items() if name != "platform"},
    }


def _is_finite(end: Trained, setting: Setting) -> bool:
    """Returns whether the loss is finite, and so are the squares of the weights, from which λ is computed."""
    squares = optax.tree.norm(end.params, squared=True) * max(setting.beta, setting.value, 1.0)
    return bool(np.isfinite(end.loss) & np.isfinite(squares))


def _diverged(setting: Setting, rate: float, loss: float) -> Facts:
    """Returns the record of a run that diverged, if its number is one of several to choose from."""
    if setting.beta or setting.value or setting.method in BY_HAND:
        return {"settings": {**vars(setting), "learning_rate": rate}, "diverged": True}
    raise BadInput(f"{setting.name()} diverged: its loss is {loss}; its learning rate was {rate:g}")


def _run(
    task: Task,
    graph: Graph,
    phase: Phase,
    params: optax.Params,
    rest: PyTree,
    data: PyTree,
    key: Array,
    begin: int = 0,
) -> Trained:
    """Returns the end of a phase whose first step is number ``begin``."""
    state = phase.tx.init(params)
    memory = sum(x.nbytes for x in jax.tree.leaves(state))
    step = _make_step(task, graph, phase.tx)
    carry, loss = jax.block_until_ready(step((params, rest, state), data, key, begin))
    start = time.perf_counter()
    for count in range(begin + 1, begin + phase.steps):
        carry, loss = step(carry, data, key, count)
    (params, rest, state), last = carry, float(loss)
    return Trained(params, rest, state, last, (time.perf_counter() - start) / max(phase.steps - 1, 1), memory)


def _settled(task: Task, graph: Graph, params: optax.Params, rest: PyTree, data: PyTree, key: Array) -> PyTree:
    """Returns the running means that belong to u; training has those of w."""

    @jax.jit
    def settle(rest: PyTree, data: PyTree, key: Array, count: int) -> PyTree:
        network = nnx.merge(graph, params, rest, copy=True)
        network(task.draw(data, jax.random.fold_in(key, count), task.batch)[0])
        return split(network)[2]

    for count in range(SETTLE_STEPS) if jax.tree.leaves(rest) else ():
        rest = settle(rest, data, key, count)
    return rest


def _make_step(task: Task, graph: Graph, tx: optax.GradientTransformation) -> Step:
    @functools.partial(jax.jit, donate_argnums=0)
    def step(carry: Carry, data: PyTree, key: Array, count: int) -> tuple[Carry, Array]:
        params, rest, state = carry
        x, y = task.draw(data, jax.random.fold_in(key, count), task.batch)

        def objective(params: optax.Params) -> tuple[Array, PyTree]:
            network = nnx.merge(graph, params, rest, copy=True)
            value = loss(network(x), y)
            return value, split(network)[2]

        (value, rest), gradient = jax.value_and_grad(objective, has_aux=True)(params)
        again = lambda at, _: jax.grad(objective, has_aux=True)(at)[0]  # noqa: E731
        updates, state = optax.with_extra_args_support(tx).update(gradient, state, params, grad_fn=again)
        return (optax.apply_updates(params, updates), rest, state), value

    return step
