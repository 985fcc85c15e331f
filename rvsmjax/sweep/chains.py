"""Sweeps of any optax chain: the lanes of a grid through ``run_lanes``."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rvsmjax import _checks
from rvsmjax.lanes import run_lanes
from rvsmjax.lanes.run import check_memory
from rvsmjax.penalties import Penalty
from rvsmjax.problems import Problem
from rvsmjax.solve import Status
from rvsmjax.sweep._tiles.loop import CHECK_EVERY
from rvsmjax.sweep.grid import Grid
from rvsmjax.sweep.subjects import Custom, Lane, OneLayer, Run, Subject
from rvsmjax.transforms import sparse_params, splitting_states

Algorithm = Callable[[Lane], optax.GradientTransformation]
Done = Callable[[Any, optax.OptState], Any]


class Part(NamedTuple):
    """Values on an axis that one program can take.

    Attributes:
      kind: what the program is compiled for: the tree structure of penalties, a static value, or None for numbers.
      entries: their indices on the axis.
      columns: their numbers, arrays over the entries.
    """

    kind: Hashable
    entries: list[int]
    columns: list[np.ndarray]


def run_chains(
    grid: Grid,
    algorithm: Algorithm,
    done: Done | None,
    key: Array,
    tol: float,
    max_steps: int,
    dtype: np.dtype,
    devices: Sequence[jax.Device],
) -> tuple[dict[str, np.ndarray], float]:
    """Returns what is measured, steps and status in the grid's shape, and the steps executed."""
    subject = Custom(grid.problem) if isinstance(grid.problem, Problem) else OneLayer(grid.factory)
    axes, seeds = parts_of(grid, dtype), cast(Sequence[int], grid.seeds)
    data: dict[str, np.ndarray] = {}
    executed = 0.0
    rounds = -(-max_steps // CHECK_EVERY)
    kinds = []
    for parts in itertools.product(*axes.values()):
        of = tuple((name, part.kind) for name, part in zip(axes, parts, strict=True))
        kinds.append((parts, functions_of(subject, of, algorithm, done, dtype.name)))
    _check(grid, [(numbers_of(axes, parts, seeds[:1], key, tol, dtype), kind) for parts, kind in kinds], devices)
    for parts, (init, step, ends, measure, _) in kinds:
        numbers = numbers_of(axes, parts, seeds, key, tol, dtype)
        result = run_lanes(init, step, ends, numbers, max_steps=rounds, measure=measure, devices=devices)
        executed += CHECK_EVERY * float(result.executed)
        fields, status = result.values
        index = np.ix_(*(part.entries for part in parts), range(grid.shape["seed"]))
        for name, values in (fields | {"steps": CHECK_EVERY * result.steps, "status": status}).items():
            array = np.asarray(values)
            full = data.setdefault(name, np.empty((*grid.shape.values(), *array.shape[1:]), array.dtype))
            full[index] = array.reshape(*(ix.size for ix in index), *array.shape[1:])
    return data, executed


def parts_of(grid: Grid, dtype: np.dtype) -> dict[str, list[Part]]:
    """Returns the axes of the lanes but for the seeds, each cut into the parts that one program can take."""
    custom = {name: _part(values, name in grid.static, dtype) for name, values in grid.axes.items()}
    if grid.problem is not None:
        return custom
    values = grid.values
    rates = (np.nan,) if values.learning_rate is None else values.learning_rate
    return {
        "penalty": _part(values.penalty, False, dtype),
        "d": _part(values.d, True, dtype),
        "k": _part([float(k) for k in values.k], False, dtype),
        "lam": _part(values.lam, False, dtype),
        "beta": _part(values.beta, False, dtype),
        "learning_rate": _part(rates, False, dtype),
        "normalize": _part(values.normalize, True, dtype),
    } | custom


def _part(values: Sequence[Any], static: bool, dtype: np.dtype) -> list[Part]:
    if static:
        return [Part(value, [i], []) for i, value in enumerate(values)]
    if not isinstance(values[0], Penalty):
        array = np.asarray(values)
        return [Part(None, list(range(len(values))), [array.astype(dtype) if array.dtype.kind == "f" else array])]
    groups: dict[Any, list[int]] = {}
    for i, penalty in enumerate(values):
        groups.setdefault(jax.tree.structure(penalty), []).append(i)
    parts = []
    for structure, entries in groups.items():
        columns = zip(*(jax.tree.leaves(values[i]) for i in entries), strict=True)
        parts.append(Part(structure, entries, [np.asarray(column, dtype) for column in columns]))
    return parts


def numbers_of(
    axes: dict[str, list[Part]], parts: Sequence[Part], seeds: Sequence[int], key: Array, tol: float, dtype: np.dtype
) -> dict[str, Any]:
    """Returns the numbers of every lane of some parts, the seed fastest."""
    index = np.indices([*(len(part.entries) for part in parts), len(seeds)]).reshape(len(parts) + 1, -1)
    by_axis = {
        name: [jnp.asarray(column[i]) for column in part.columns]
        for name, part, i in zip(axes, parts, index, strict=False)
        if part.columns
    }
    lanes = index.shape[1:]
    return {
        "axes": by_axis,
        "seed": jnp.asarray(np.asarray(seeds, np.uint32)[index[-1]]),
        "key": jnp.broadcast_to(key, lanes),
        "tol": jnp.full(lanes, tol, dtype),
    }


class Functions(NamedTuple):
    """What ``run_lanes`` takes for a kind of lanes, the same objects for equal arguments.

    Attributes:
      init: see ``run_lanes``.
      step: see ``run_lanes``.
      ends: ``done`` of ``run_lanes``.
      measure: see ``run_lanes``.
      read: names of the axes that a trace has read.
    """

    init: Callable[..., Any]
    step: Callable[..., Any]
    ends: Callable[..., Any]
    measure: Callable[..., Any]
    read: set[str]


def _check(grid: Grid, kinds: Sequence[tuple[Any, Functions]], devices: Sequence[jax.Device]) -> None:
    """Raises unless each custom axis is read by some kind of lanes, and the lanes fit in memory."""
    read: set[str] = set()
    for numbers, functions in kinds:
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), numbers)
        state = jax.eval_shape(functions.init, one)
        if not functions.read.issuperset(grid.axes):
            jax.eval_shape(functions.step, state, one)
        read |= functions.read
        values = jax.eval_shape(functions.measure, state, one)
        check_memory("grid", len(numbers["seed"]) * grid.shape["seed"], one, state, values, devices)
    if unread := [name for name in grid.axes if name not in read]:
        raise ValueError(f"axes must be read by the algorithm or the problem, got {unread[0]!r}, which is not")


@functools.lru_cache(maxsize=256)
def functions_of(
    subject: Subject, kinds: tuple[tuple[str, Hashable], ...], algorithm: Algorithm, done: Done | None, dtype: str
) -> Functions:
    """Returns what ``run_lanes`` runs for a kind of lanes."""
    read: set[str] = set()

    def lane_of(numbers: Any) -> Lane:
        def value(name: str, kind: Hashable) -> Any:
            if name not in numbers["axes"] and not isinstance(kind, jax.tree_util.PyTreeDef):
                return kind  # static
            leaves = numbers["axes"].get(name, [])
            return leaves[0] if kind is None else jax.tree.unflatten(kind, leaves)

        lane = subject.lane({name: value(name, kind) for name, kind in kinds})
        lane.__dict__["_read"] = read
        return lane

    def chain_of(lane: Lane) -> optax.GradientTransformationExtraArgs:
        chain = algorithm(lane)
        if not isinstance(chain, optax.GradientTransformation):
            raise TypeError(f"algorithm must return an optax.GradientTransformation, got {_checks.show(chain)}")
        return optax.with_extra_args_support(chain)

    def key_of(numbers: Any) -> Array:
        return jax.random.fold_in(numbers["key"], numbers["seed"])

    def judged(lane: Lane, run: Run, gradient: Any, tol: Array) -> tuple[Array, Array]:
        size = subject.residual(lane, run.w, run.opt_state, run.data, gradient).astype(dtype)
        met: Any = size <= tol if done is None else done(run.w, run.opt_state)
        if jnp.shape(met) != () or not jnp.issubdtype(jnp.result_type(met), jnp.bool_):
            raise TypeError(f"done must return one boolean, got {_checks.show(met)}")
        finite = jnp.isfinite(size)
        for leaf in jax.tree.leaves(run.w):
            finite = finite & jnp.all(jnp.isfinite(leaf))
        status = jnp.where(finite, jnp.where(met, Status.CONVERGED, Status.CAP), Status.DIVERGED)
        return size, status.astype(jnp.int8)

    def init(numbers: Any) -> Run:
        lane, key = lane_of(numbers), key_of(numbers)
        w, data = subject.draw(key, lane, np.dtype(dtype))
        opt_state = jax.tree.map(jnp.asarray, chain_of(lane).init(w))
        run = Run(w, opt_state, data, jnp.zeros((), dtype), jnp.int8(Status.CAP), jnp.int32(0))
        size, status = judged(lane, run, subject.grad(lane, w, data, key, run.step), numbers["tol"])
        return run._replace(residual=size, status=status)

    def step(run: Run, numbers: Any) -> Run:
        lane, key = lane_of(numbers), key_of(numbers)
        chain = chain_of(lane)

        def one(carry: tuple[Any, ...], _: None = None) -> tuple[tuple[Any, ...], None]:
            w, opt_state, count = carry
            gradient = subject.grad(lane, w, run.data, key, count)
            gradient = jax.tree.map(lambda g, x: g.astype(x.dtype), gradient, w)
            updates, opt_state = chain.update(gradient, opt_state, w)
            return (optax.apply_updates(w, updates), opt_state, count + 1), None

        start = run.w, run.opt_state, run.step
        _require_fixed(start[1], jax.eval_shape(one, start)[0][1])
        (w, opt_state, count), _ = jax.lax.scan(one, start, length=CHECK_EVERY)
        new = run._replace(w=w, opt_state=opt_state, step=count)
        size, status = judged(lane, new, subject.grad(lane, w, run.data, key, count), numbers["tol"])
        # The last finite iterate is kept.
        kept = jax.tree.map(lambda a, b: jnp.where(status == Status.DIVERGED, b, a), new._replace(residual=size), run)
        return kept._replace(status=status, step=count, data=run.data)

    def ends(run: Run, numbers: Any) -> Array:
        return run.status != Status.CAP

    def measure(run: Run, numbers: Any) -> tuple[dict[str, Array], Array]:
        u = sparse_params(run.opt_state, run.w) if splitting_states(run.opt_state) else run.w
        return subject.measure(lane_of(numbers), run.w, u, run.data), run.status

    return Functions(init, step, ends, measure, read)


def _require_fixed(before: Any, after: Any) -> None:
    """Raises ``TypeError`` if the state of a chain does not keep its structure, shapes and dtypes in an update."""
    shapes = [[(x.shape, x.dtype) for x in jax.tree.leaves(tree)] for tree in (before, after)]
    structures: list[Any] = [jax.tree.structure(tree) for tree in (before, after)]
    if structures[0] != structures[1] or shapes[0] != shapes[1]:
        changed = [f"{b[1]}{list(b[0])} after {a[1]}{list(a[0])}" for a, b in zip(*shapes, strict=False) if a != b]
        shown = changed[0] if changed else f"{structures[1]} after {structures[0]}"
        raise TypeError(f"algorithm must return a chain whose state keeps its shapes, got {_checks.show(shown)}")
