"""``run_lanes``: runs of one loop with other numbers, in one call."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax._programs import free_memory, operations
from rvsmjax.lanes import queue
from rvsmjax.lanes.adjoint import with_adjoint

State = TypeVar("State")
BYTES = {"cpu": 2**19}
"""Of the states of a tile: what fits in a core's cache."""
BYTES_ELSEWHERE = 2**26
WIDEST = {"cpu": 1024}
WIDEST_ELSEWHERE = 16_384
OPTIONS = {"cpu": {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"}}
"""A tile's work is too small to split among threads, but for that of LAPACK, beside which a core is free."""
LAPACK = {
    "cholesky",
    "eig",
    "eigh",
    "geqrf",
    "hessenberg",
    "householder_product",
    "lu",
    "ormqr",
    "qr",
    "schur",
    "svd",
} | {"triangular_solve", "tridiagonal", "tridiagonal_solve"}
"""Operations of JAX that call LAPACK on a CPU, matrix by matrix in several threads."""
FACTOR = 8
"""Ratio of one width to the next, down to 1: each is compiled."""
REVERSE = 4
"""Limit of a lane's steps in the reverse pass, over that of its steps: it ends at rounding, not at a tolerance."""


class Lanes(NamedTuple):
    """Results of ``run_lanes``; arrays have a leading axis of lanes, in the order of ``numbers``.

    Attributes:
      values: ``measure`` of each lane's last state; the state itself without ``measure``.
      steps: number of steps.
      done: whether the lane met ``done``; the others ended at ``max_steps``.
      executed: steps that were computed, those of idle slots included; divided by the sum of ``steps`` it is the
        waste, at least 1.
    """

    values: Any
    steps: Array
    done: Array
    executed: Array


def run_lanes(
    init: Callable[[Any], State],
    step: Callable[[State, Any], State],
    done: Callable[[State, Any], ArrayLike],
    numbers: Any,
    *,
    max_steps: int,
    measure: Callable[[State, Any], Any] | None = None,
    widths: Sequence[int] | None = None,
    devices: Sequence[jax.Device] | None = None,
    adjoint: Literal["implicit"] | None = None,
) -> Lanes:
    """Runs ``state ← step(state, numbers)`` from ``init(numbers)`` until ``done``, for every lane's numbers.

    As ``jax.vmap`` of a ``while_loop``, but lanes that have ended make room for others instead of waiting for the
    slowest: the time follows the sum of the lanes' steps, not their number times the longest. All lanes are one
    dispatch; other numbers compile nothing, nor does another ``max_steps``. For whatever iterates to an end: a solver,
    a small training with early stopping, a sampler.

    A lane's result depends on its own numbers alone. With a single width it is the same to the bit among any others, in
    any order and on any number of devices of a kind. XLA may round a step differently at another width, so with several
    the last bits may depend on the other lanes.

    Args:
      init: function of a lane's numbers that returns its state, a tree of arrays.
      step: function of a lane's state and numbers that returns the next state, with the same shapes and dtypes.
      done: function of a lane's state and numbers that returns whether the lane has ended, a boolean; it is asked
        before the first step, too. A state may become NaN, so a loop that can diverge should end there.
      numbers: what tells the lanes apart: a tree of arrays with a common leading axis, for example of λ, seeds or keys.
      max_steps: limit of a lane's steps, >= 1.
      measure: function of a lane's last state and numbers; its values, a tree of arrays, are the results. Default the
        state.
      widths: numbers of lanes that run side by side, decreasing: the first while lanes wait, the others when few are
        left. Each is compiled. Default by the size of the state: up to 1024 on a CPU and at most the number of lanes,
        then an eighth each time, to 1.
      devices: devices among which the lanes are dealt. Default all of JAX's default backend. Of CPU devices one fewer
        than there are cores are used if a lane factors or solves matrices: JAX's batches of them wait for a free core.
      adjoint: ``"implicit"`` for derivatives of ``values`` in the floats of ``numbers``, in reverse mode: those of the
        fixed point of ``step`` at which a lane ends, by an iteration as long as the lane's. They do not depend on
        ``init`` and are as accurate as the lane has converged; 0 if ``step`` does not contract there. Default none.

    Raises:
      TypeError: if ``init``, ``step``, ``done`` or ``measure`` is not a function, ``widths`` or ``devices`` is not a
        sequence, the state's shapes change in ``step``, or ``done`` does not return one boolean.
      ValueError: if the leaves of ``numbers`` have no common leading axis, ``max_steps`` is not a whole number in
        [1, 2**31), ``widths`` do not decrease, ``adjoint`` is unknown, or the lanes do not fit in memory.

    Example:
      >>> def init(numbers):
      ...     return jnp.array(1.0)
      >>> def newton(x, numbers):
      ...     return (x + numbers["a"] / x) / 2
      >>> def done(x, numbers):
      ...     return abs(x * x - numbers["a"]) <= 1e-5 * numbers["a"]
      >>> roots = run_lanes(init, newton, done, {"a": jnp.array([1.0, 2.0, 1e6])}, max_steps=100)
      >>> [round(float(x), 2) for x in roots.values], roots.steps.tolist()
      ([1.0, 1.41, 1000.0], [0, 3, 13])
    """
    for name, function in (("init", init), ("step", step), ("done", done), ("measure", measure)):
        if not callable(function) and (name, function) != ("measure", None):
            raise TypeError(f"{name} must be a function, got {_checks.show(function)}")
    lanes = _common_length(numbers)
    numbers = jax.tree.map(jnp.asarray, numbers)
    max_steps = _checks.count("max_steps", max_steps)
    if adjoint not in ("implicit", None):
        raise ValueError(f"adjoint must be 'implicit' or None, got {_checks.show(adjoint)}")
    one = _one(numbers)
    state = _check(init, step, done, one)
    if not isinstance(devices, Iterable | None):
        raise TypeError(f"devices must be a sequence of devices, got {_checks.show(devices)}")
    devices = tuple(jax.devices() if devices is None else devices)
    if not devices:
        raise ValueError("devices must name at least one device, got ()")
    loop = queue.Loop(init, step, done, _last if measure is None else measure)
    lapack = _calls_lapack(loop, state, one, devices)
    devices = _without_deadlock(loop, state, one, devices)
    each = -(-lanes // len(devices))
    chosen = _widths(state, each, devices[0].platform) if widths is None else _decreasing(widths)

    def run(loop: queue.Loop, numbers: Any, most: int = max_steps) -> Lanes:
        one = _one(numbers)
        state = jax.eval_shape(loop.init, one)  # in the reverse pass another than that of the lanes
        check_memory("numbers", lanes, one, state, jax.eval_shape(loop.measure, state, one), devices)
        # Options of the compiler belong to a whole program: inside another one there are none.
        inside = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(numbers))
        program = _program(None if inside or lapack else devices[0].platform)
        return program(numbers, jnp.int32(most), loop, chosen, devices)

    if adjoint is None:
        return run(loop, numbers)
    most = min(REVERSE * max_steps, 2**31 - 1)
    return cast(Lanes, with_adjoint(run, functools.partial(run, most=most), loop, numbers))


@functools.cache
def _program(platform: str | None) -> Callable[..., Lanes]:
    return jax.jit(_run, static_argnums=(2, 3, 4), compiler_options=OPTIONS.get(platform or ""))


def _last(state: Any, numbers: Any) -> Any:
    return state


def _run(
    numbers: Any, max_steps: Array, loop: queue.Loop, widths: tuple[int, ...], devices: tuple[jax.Device, ...]
) -> Lanes:
    """Deals the lanes among the devices like cards, so that slow and fast ones are spread evenly."""
    lanes, hands = jax.tree.leaves(numbers)[0].shape[0], len(devices)
    each = -(-lanes // hands)
    rows = -(-each // widths[0]) * widths[0]

    def deal(x: Array) -> Array:
        whole = jnp.concatenate([x, jnp.broadcast_to(x[:1], (each * hands - lanes, *x.shape[1:]))])
        hand = jnp.swapaxes(whole.reshape(each, hands, *x.shape[1:]), 0, 1)
        spare = jnp.broadcast_to(hand[:, :1], (hands, rows - each, *x.shape[1:]))
        return jnp.concatenate([hand, spare], 1)

    def local(numbers: Any, total: Array, max_steps: Array) -> tuple[Any, ...]:
        numbers, total = jax.tree.map(lambda x: x[0], (numbers, total))
        return jax.tree.map(lambda x: x[None], queue.run(loop, numbers, total, max_steps, widths))

    totals = (lanes - jnp.arange(hands, dtype=jnp.int32) + hands - 1) // hands
    split, same = PartitionSpec("lanes"), PartitionSpec()
    mesh = Mesh(np.asarray(devices), ("lanes",))
    spread = jax.shard_map(local, mesh=mesh, in_specs=(split, split, same), out_specs=split, check_vma=False)

    def gather(x: Array) -> Array:
        return jnp.swapaxes(x[:, :each], 0, 1).reshape(each * hands, *x.shape[2:])[:lanes]

    values, steps, ended, executed = spread(jax.tree.map(deal, numbers), totals, max_steps)
    values, steps, ended = jax.tree.map(gather, (values, steps, ended))
    executed = jnp.sum(executed * jnp.asarray(widths, "float32"))
    return Lanes(values, steps, ended, executed)


def _one(numbers: Any) -> Any:
    """Returns the shapes of a lane's numbers."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), numbers)


def _common_length(numbers: Any) -> int:
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(numbers)}
    if len(lengths) != 1 or () in lengths or (0,) in lengths:
        shapes = _checks.show([np.shape(leaf) for leaf in jax.tree.leaves(numbers)])
        raise ValueError(f"numbers must be arrays with a common leading axis of at least one lane, got shapes {shapes}")
    return lengths.pop()[0]


def _check(init: Callable[..., Any], step: Callable[..., Any], done: Callable[..., Any], one: Any) -> Any:
    """Returns the shapes of a lane's state."""
    state = jax.eval_shape(init, one)
    new = jax.eval_shape(step, state, one)
    found: Hashable = jax.tree.structure(new)
    if found != jax.tree.structure(state):
        raise TypeError(f"step must return a state of the structure of init's, got {_checks.show(found)}")
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(new), strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            name = jax.tree_util.keystr(path) or "the state"
            was, now = (f"{x.dtype.name}{list(x.shape)}" for x in (a, b))
            raise TypeError(f"step must keep the shapes and dtypes of init's state, got {now} for {was} at {name}")
    met = jax.eval_shape(done, state, one)
    if getattr(met, "shape", None) != () or met.dtype != bool:
        raise TypeError(f"done must return one boolean, got {_checks.show(met)}")
    return state


def _without_deadlock(
    loop: queue.Loop, state: Any, one: Any, devices: tuple[jax.Device, ...]
) -> tuple[jax.Device, ...]:
    """Returns the devices, fewer of a CPU than XLA has threads if the lanes call LAPACK.

    The program of a device occupies a thread. LAPACK's batches are shared among threads, for which that one waits: for
    ever, if all of them do.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = int(os.environ.get("NPROC") or cores)
    return devices[: max(1, threads - 1)] if _calls_lapack(loop, state, one, devices) else devices


def _calls_lapack(loop: queue.Loop, state: Any, one: Any, devices: tuple[jax.Device, ...]) -> bool:
    shapes, structure = jax.tree.flatten((state, one))
    return devices[0].platform == "cpu" and _has_lapack(loop, structure, tuple(shapes))


@functools.lru_cache(maxsize=256)
def _has_lapack(loop: queue.Loop, structure: Any, shapes: tuple[jax.ShapeDtypeStruct, ...]) -> bool:
    state, one = jax.tree.unflatten(structure, shapes)
    programs = (
        jax.make_jaxpr(loop.init)(one),
        *(jax.make_jaxpr(function)(state, one) for function in (loop.step, loop.done, loop.measure)),
    )
    return any(name in LAPACK for program in programs for name, _ in operations(program))


def check_memory(name: str, lanes: int, numbers: Any, state: Any, values: Any, devices: Sequence[jax.Device]) -> None:
    """Raises ``ValueError``, naming an argument, if lanes of these shapes do not fit in memory.

    Numbers and values are held twice, as dealt and in order.
    """
    each, free = 2 * _bytes(numbers) + _bytes(state) + 2 * _bytes(values), free_memory(devices)
    if lanes * each > free:
        needed, left = (f"{x / 1e9:,.1f} GB" for x in (lanes * each, free))
        raise ValueError(f"{name} must fit in memory: {lanes:,} lanes need {needed}, {left} are free")


def _bytes(tree: Any) -> int:
    """Returns the size of arrays, keys of ``jax.random`` among them."""
    shapes = [jax.eval_shape(jax.random.key_data, x) if _is_key(x) else x for x in jax.tree.leaves(tree)]
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in shapes)


def _is_key(x: Any) -> bool:
    return bool(jnp.issubdtype(x.dtype, jax.dtypes.prng_key))


def _widths(state: Any, lanes: int, platform: str) -> tuple[int, ...]:
    fit = BYTES.get(platform, BYTES_ELSEWHERE) // max(_bytes(state), 1)
    widest = WIDEST.get(platform, WIDEST_ELSEWHERE)
    widths = [max(min(widest, fit, lanes), 1)]
    while widths[-1] > 1:
        widths.append(max(widths[-1] // FACTOR, 1))
    return tuple(widths)


def _decreasing(widths: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(widths, Iterable):
        raise TypeError(f"widths must be a sequence of whole numbers, got {_checks.show(widths)}")
    counts = tuple(_checks.count("widths", width) for width in widths)
    if not counts or any(a <= b for a, b in itertools.pairwise(counts)):
        raise ValueError(f"widths must decrease, got {_checks.show(list(widths))}")
    return counts
