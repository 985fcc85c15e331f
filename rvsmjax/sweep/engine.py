"""A grid of lanes in one accelerator call."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from rvsmjax import _checks
from rvsmjax.penalties import moreau_envelope
from rvsmjax.solve import Status
from rvsmjax.sweep.grid import ACTIVATIONS, Grid
from rvsmjax.sweep.result import SweepResult
from rvsmjax.sweep.step import Tile, advance, residual
from rvsmjax.theory import Certificate, certificate_at, largest_learning_rate

CHECK_EVERY = 8
"""Steps between looks at the residual: a lane's count of steps is a multiple of it."""

ROWS = 64

_INNER = ("k", "lam", "beta", "learning_rate", "seed")

# XLA prefers half of AVX-512's width; where there is none the preference has no effect.
_OPTIONS: dict[str, dict[str, str | bool]] = {"cpu": {"xla_cpu_prefer_vector_width": "512"}}

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class _Kind:
    """Lanes that run the same code: one d, one structure of penalty, normalised or not."""

    d: int
    entries: tuple[int, ...]
    penalty: Any
    normalize: bool

    @property
    def rows(self) -> int:
        """The d that lanes are drawn and measured with: rounded up, so that kinds of near d share that code."""
        return -(-self.d // ROWS) * ROWS


@dataclasses.dataclass(frozen=True)
class _Plan:
    """All that the compiled program depends on; numbers on the axes are its arguments."""

    kinds: tuple[_Kind, ...]
    lengths: tuple[int, ...]
    activation: str
    given_rate: bool
    dtype: str
    tile: int
    devices: tuple[Any, ...]
    progress: bool

    @property
    def blocks(self) -> list[_Block]:
        """The kinds with equal rows together."""
        rows = sorted({kind.rows for kind in self.kinds})
        return [_Block(self, tuple(kind for kind in self.kinds if kind.rows == r)) for r in rows]


@dataclasses.dataclass(frozen=True)
class _Block:
    """Kinds that share a loop over tiles: the tiles of one kind, then those of the next."""

    plan: _Plan
    kinds: tuple[_Kind, ...]

    @property
    def lanes(self) -> tuple[int, ...]:
        """Lanes of each kind."""
        return tuple(len(kind.entries) * math.prod(self.plan.lengths) for kind in self.kinds)

    @property
    def ends(self) -> tuple[int, ...]:
        """The tile after the last of each kind."""
        return tuple(itertools.accumulate(-(-n // self.plan.tile) for n in self.lanes))

    @property
    def rounds(self) -> int:
        """Tiles that each device runs; on some the last is past the end."""
        return -(-self.ends[-1] // len(self.plan.devices))


def run_sweep(
    grid: Grid,
    key: Array | None = None,
    *,
    tol: float = 1e-6,
    max_steps: int = 100_000,
    dtype: Any = None,
    devices: Sequence[Any] | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Runs RVSM on every lane of ``grid`` to its limit, in one call of one compiled program, on all local devices.

    Lanes are run in tiles; a tile stops when its last lane has. A lane's result depends on its own parameters, its seed
    and ``key`` alone: to the bit it is the same in any grid, on devices of the same kind. New numbers on axes of the
    same lengths do not recompile.

    Args:
      grid: the lanes.
      key: root key; a lane draws from ``fold_in(key, seed)``. Default ``jax.random.key(0)``.
      tol: bound > 0 on the residual ‖∇f(w) + β(w − u)‖ (tangential on the sphere) at which a lane has converged.
      max_steps: step cap of a lane, >= 1, rounded up to a multiple of 8.
      dtype: working precision; default is JAX's default float, float32 unless 64-bit numbers are enabled.
      devices: default all local devices.
      progress: called as ``progress(lanes_done, lanes)`` from another thread while the program runs.

    Raises:
      TypeError: ``grid`` is no Grid.
      ValueError: ``tol`` <= 0, ``max_steps`` < 1, an unknown precision, a grid whose result does not fit in memory.

    Source: A Algorithm 1, Tables 1 to 3.

    Example:
      >>> result = run_sweep(Grid(penalty="l0", d=10, k=2, seeds=4))
      >>> result.data["status"].ravel().tolist()
      [0, 0, 0, 0]
    """
    if not isinstance(grid, Grid):
        raise TypeError(f"grid must be a Grid, got {grid!r}")
    _checks.positive("tol", tol)
    _checks.integer("max_steps", max_steps, at_least=1)
    key = jax.random.key(0) if key is None else key
    places = tuple(jax.local_devices() if devices is None else devices)
    plan = _plan(grid, _precision(dtype), places, progress is not None)
    _check_memory(grid, plan)
    arguments = _arguments(grid, plan, key, tol, max_steps)

    started = time.perf_counter()
    hits = _compile.cache_info().hits
    program = _compile(plan, jax.random.key_impl(key))
    compiled = time.perf_counter()
    with _reporting(progress, grid.size, plan.tile):
        outputs = jax.block_until_ready(program(*arguments))
    finished = time.perf_counter()
    return SweepResult(
        grid=grid,
        data=_assemble(grid, plan, outputs),
        tol=float(tol),
        compile_seconds=0.0 if _compile.cache_info().hits > hits else compiled - started,
        run_seconds=finished - compiled,
        steps_executed=int(sum(np.asarray(o["executed"], np.int64).sum() for o in outputs)) * plan.tile,
        devices=tuple(f"{device.platform}: {device.device_kind}" for device in places),
    )


def _precision(dtype: Any) -> np.dtype:
    chosen = np.dtype(jnp.result_type(float) if dtype is None else dtype)
    if chosen not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {chosen}")
    if chosen == np.float64 and not jax.config.jax_enable_x64:
        raise ValueError("dtype float64 needs 64-bit numbers: set jax_enable_x64, or run inside jax.enable_x64(True)")
    return chosen


def _plan(grid: Grid, dtype: np.dtype, devices: tuple[Any, ...], progress: bool) -> _Plan:
    axes = grid.axes
    entries: dict[Any, list[int]] = {}
    for index, penalty in enumerate(axes.penalty):
        entries.setdefault(jax.tree.structure(penalty), []).append(index)
    return _Plan(
        kinds=tuple(
            _Kind(d, tuple(own), structure, flag)
            for d in axes.d
            for structure, own in entries.items()
            for flag in axes.normalize
        ),
        lengths=tuple(grid.shape[name] for name in _INNER),
        activation=grid.activation,
        given_rate=axes.learning_rate is not None,
        dtype=dtype.name,
        # On a CPU a tile stays in cache; on an accelerator it fills the chip.
        tile=256 if devices[0].platform == "cpu" else 65_536,
        devices=devices,
        progress=progress,
    )


def _arguments(grid: Grid, plan: _Plan, key: Array, tol: float, max_steps: int) -> tuple[Any, ...]:
    number = np.dtype(plan.dtype).type
    values = grid.axes
    axes = {name: np.asarray(getattr(values, name), number) for name in ("k", "lam", "beta")}
    axes["learning_rate"] = np.asarray([0] if values.learning_rate is None else values.learning_rate, number)
    axes["seed"] = np.asarray(values.seeds, np.uint32)
    leaves = []
    for kind in plan.kinds:
        columns = zip(*(jax.tree.leaves(values.penalty[i]) for i in kind.entries), strict=True)
        leaves.append([np.asarray(column, number) for column in columns])
    counts = [np.asarray([block.rounds, -(-plan.lengths[-1] // plan.tile)], np.int32) for block in plan.blocks]
    return axes, leaves, counts, np.asarray(jax.random.key_data(key)), number(tol), np.int32(max_steps)


@functools.lru_cache(maxsize=64)
def _compile(plan: _Plan, key_impl: Any) -> Any:
    """Returns the compiled program of a plan: one trace, one executable."""
    number = jnp.dtype(plan.dtype)
    axes = {name: jax.ShapeDtypeStruct((n,), number) for name, n in zip(_INNER, plan.lengths, strict=True)}
    axes["seed"] = jax.ShapeDtypeStruct((plan.lengths[-1],), jnp.uint32)
    leaves = [[jax.ShapeDtypeStruct((len(k.entries),), number)] * k.penalty.num_leaves for k in plan.kinds]
    count = jax.ShapeDtypeStruct((), jnp.int32)
    key_data = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=key_impl)))

    def local(axes: Any, leaves: Any, counts: Any, key_data: Array, tol: Array, max_steps: Array) -> list[Any]:
        key = jax.random.wrap_key_data(key_data, impl=key_impl)
        own = dict(zip(plan.kinds, leaves, strict=True))
        return [
            _run_block(block, axes, [own[kind] for kind in block.kinds], n, key, tol, max_steps)
            for block, n in zip(plan.blocks, counts, strict=True)
        ]

    tol = jax.ShapeDtypeStruct((), number)
    mesh = Mesh(np.asarray(plan.devices), ("lanes",))
    everywhere, split = PartitionSpec(), PartitionSpec("lanes")
    sharded = jax.shard_map(local, mesh=mesh, in_specs=everywhere, out_specs=split, check_vma=False)
    return (
        jax.jit(sharded)
        .lower(axes, leaves, [jax.ShapeDtypeStruct((2,), jnp.int32)] * len(plan.blocks), key_data, tol, count)
        .compile(_OPTIONS.get(plan.devices[0].platform))
    )


def _run_block(
    block: _Block, axes: Any, leaves: list[Any], counts: Array, key: Array, tol: Array, max_steps: Array
) -> dict[str, Array]:
    """Runs this device's tiles of a block: every n-th of them, so that slow and fast cells are shared out."""
    devices = block.plan.devices
    # The numbers of tiles are arguments: a loop of known length 1 would be inlined, and might round differently.
    rounds, seed_tiles = counts
    draws = _draw(block, axes["seed"], seed_tiles, key)
    run = functools.partial(_run_tile, block, axes, leaves, draws, tol, max_steps)
    shapes = jax.eval_shape(run, jax.ShapeDtypeStruct((), jnp.int32))
    room = jax.tree.map(lambda s: jnp.zeros((block.rounds, *s.shape), s.dtype), shapes)

    def one(i: Array, stored: dict[str, Array]) -> dict[str, Array]:
        out = run(i * len(devices) + jax.lax.axis_index("lanes"))
        if block.plan.progress:
            jax.debug.callback(_report, i)
        return jax.tree.map(lambda a, b: jax.lax.dynamic_update_index_in_dim(a, b, i, 0), stored, out)

    return jax.lax.fori_loop(0, rounds, one, room)


def _draw(block: _Block, seeds: Array, tiles: Array, key: Array) -> Array:
    """Returns normal draws for w* and w⁰ of every seed, of shape (2, rows, seeds rounded up to tiles).

    Lanes of smaller d take the first d rows.
    """
    tile, rows = block.plan.tile, block.kinds[0].rows
    seeds = jnp.pad(seeds, (0, -len(seeds) % tile))

    def draw(seed: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, seed), (2, rows), block.plan.dtype)

    def one(i: Array, stored: Array) -> Array:
        drawn = jax.vmap(draw, out_axes=2)(jax.lax.dynamic_slice_in_dim(seeds, i * tile, tile))
        return jax.lax.dynamic_update_slice_in_dim(stored, drawn, i * tile, 2)

    return jax.lax.fori_loop(0, tiles, one, jnp.zeros((2, rows, len(seeds)), block.plan.dtype))


def _run_tile(
    block: _Block, axes: Any, leaves: list[Any], draws: Array, tol: Array, max_steps: Array, tile: Array
) -> dict[str, Array]:
    plan = block.plan
    which = jnp.searchsorted(jnp.asarray(block.ends), tile, side="right")
    lane = (tile - jnp.asarray((0, *block.ends))[which]) * plan.tile + jnp.arange(plan.tile, dtype=jnp.int32)
    live = lane < jnp.asarray((*block.lanes, 0))[which]
    cells = math.prod(plan.lengths)
    entry, (*places, seed) = lane // cells, jnp.unravel_index(lane % cells, plan.lengths)
    k, lam, beta, rate = (axes[name][place] for name, place in zip(_INNER[:-1], places, strict=True))
    rate = rate if plan.given_rate else largest_learning_rate(beta)
    drawn = draws[:, :, seed]
    problem = ACTIVATIONS[plan.activation](k)

    def run(kind: _Kind, own: list[Array]) -> Any:
        w_star, w = drawn[:, : kind.d] * jax.lax.rsqrt(jnp.sum(drawn[:, : kind.d] ** 2, 1, keepdims=True))
        penalty = jax.tree.unflatten(kind.penalty, [leaf[jnp.minimum(entry, len(kind.entries) - 1)] for leaf in own])
        w, u, *rest = _iterate(Tile(problem, penalty, lam, beta, rate, w_star, kind.normalize), w, live, tol, max_steps)
        vectors = [jnp.pad(v, ((0, kind.rows - kind.d), (0, 0))) for v in (w, w_star, u)]
        return jnp.full(plan.tile, kind.d, jnp.int32), *vectors, *rest

    def idle() -> Any:
        """Past the last tile, on devices that have one less."""
        none, lanes = jnp.zeros_like(draws, shape=(block.kinds[0].rows, plan.tile)), jnp.zeros(plan.tile, jnp.int32)
        return lanes, none, none, none, none[0], lanes, lanes.astype(jnp.int8), lanes[0]

    branches = [functools.partial(run, kind, own) for kind, own in zip(block.kinds, leaves, strict=True)]
    d, w, w_star, u, envelope, steps, status, executed = jax.lax.switch(which, [*branches, idle])

    def measure(*lanes: Any) -> Certificate:
        return jax.vmap(certificate_at, in_axes=(0, 0, 0, 0, 1, 1, 1, 0))(*lanes)

    def skip(*lanes: Any) -> Certificate:
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(measure, *lanes))

    # A branch of its own, so that it is compiled alike and rounds alike whatever stands around it.
    lanes = (problem, lam, beta, d, w, w_star, u, envelope)
    measured = jax.lax.cond(which < len(block.kinds), measure, skip, *lanes)
    return {**measured._asdict(), "steps": steps, "status": status, "executed": executed}


def _iterate(tile: Tile, w: Array, live: Array, tol: Array, max_steps: Array) -> Any:
    """Runs a tile to the limits of its live lanes; a lane that has ended is held still while the others go on."""

    def body(carry: Any) -> Any:
        w, t, steps, status = carry
        new = advance(tile, w, CHECK_EVERY)
        res = residual(tile, new)
        running, finite = status == Status.CAP, jnp.isfinite(res)
        ended = jnp.where(res <= tol, Status.CONVERGED, Status.CAP)
        status = jnp.where(running, jnp.where(finite, ended, Status.DIVERGED), status).astype(status.dtype)
        return jnp.where(running & finite, new, w), t + CHECK_EVERY, steps + CHECK_EVERY * running, status

    def unfinished(carry: Any) -> Array:
        _, t, _, status = carry
        return jnp.any(status == Status.CAP) & (t < max_steps)

    # Until it ends in another way a lane is one that the cap would end; padding has ended before it starts.
    status = jnp.where(live, Status.CAP, Status.CONVERGED).astype(jnp.int8)
    start = (w, jnp.zeros((), jnp.int32), jnp.zeros(w.shape[1], jnp.int32), status)
    w, executed, steps, status = jax.lax.while_loop(unfinished, body, start)
    step = tile.lam / tile.beta
    u = jax.vmap(lambda penalty, v, s: penalty.prox(v, s), (0, 1, 0), 1)(tile.penalty, w, step)
    envelope = jax.vmap(moreau_envelope, (0, 1, 0))(tile.penalty, w, step)
    return w, u, envelope, steps, status, executed


def _assemble(grid: Grid, plan: _Plan, outputs: Any) -> dict[str, np.ndarray]:
    """Puts the tiles in their place in arrays of the grid's shape."""
    shape = tuple(grid.shape.values())
    axes = grid.axes
    data: dict[str, np.ndarray] = {}
    for block, out in zip(plan.blocks, outputs, strict=True):
        for name in (*Certificate._fields, "steps", "status"):
            by_device = np.asarray(out[name]).reshape(len(plan.devices), block.rounds, plan.tile)
            tiles = by_device.swapaxes(0, 1).reshape(-1, plan.tile)
            whole = data.setdefault(name, np.empty(shape, tiles.dtype))
            for kind, lanes, first, end in zip(block.kinds, block.lanes, (0, *block.ends), block.ends, strict=False):
                values = tiles[first:end].reshape(-1)[:lanes].reshape(len(kind.entries), *plan.lengths)
                place = axes.d.index(kind.d), ..., axes.normalize.index(kind.normalize), slice(None)
                whole[(list(kind.entries), *place)] = values
    lost = data["status"] == Status.DIVERGED
    if lost.any():
        for name in set(Certificate._fields) - {"zeros"}:
            data[name][lost] = np.nan
    return data


def lane_bytes(dtype: Any) -> int:
    """Returns the memory that one lane's result takes, in bytes: once as computed and once as assembled."""
    return 2 * (11 * np.dtype(dtype).itemsize + 4 + 4 + 1)


def _check_memory(grid: Grid, plan: _Plan) -> None:
    need, free = grid.size * lane_bytes(plan.dtype), _free_memory(plan.devices)
    if need > free:
        cells = grid.size // grid.shape["seed"]
        fit = free // (cells * lane_bytes(plan.dtype))
        raise ValueError(
            f"grid must fit in memory: {grid.size:,} lanes need {need / 1e9:,.1f} GB and {free / 1e9:,.1f} GB are free; "
            f"with its {cells:,} cells at most {fit:,} seeds fit"
        )


def _free_memory(devices: tuple[Any, ...]) -> int:
    """Free bytes on the host, or on the devices together where those have less."""
    try:
        with open("/proc/meminfo") as lines:
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    stats = [device.memory_stats() or {} for device in devices if device.platform != "cpu"]
    if stats and all("bytes_limit" in s for s in stats):
        free = min(free, sum(s["bytes_limit"] - s.get("bytes_in_use", 0) for s in stats))
    return free


class _reporting:
    """Sends the progress of the running program to ``progress`` while the block runs."""

    current: _reporting | None = None

    def __init__(self, progress: Progress | None, lanes: int, tile: int) -> None:
        self.progress, self.lanes, self.tile, self.done = progress, lanes, tile, 0

    def __enter__(self) -> None:
        _reporting.current = self

    def __exit__(self, *exception: Any) -> None:
        jax.effects_barrier()
        _reporting.current = None


def _report(_: Any) -> None:
    now = _reporting.current
    if now is not None and now.progress is not None:
        now.done = min(now.done + now.tile, now.lanes)
        now.progress(now.done, now.lanes)
