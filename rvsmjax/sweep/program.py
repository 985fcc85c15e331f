"""The compiled program of a sweep."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from rvsmjax.penalties import moreau_envelope
from rvsmjax.solve import Status
from rvsmjax.sweep import kernel
from rvsmjax.sweep.grid import ACTIVATIONS
from rvsmjax.sweep.plan import INNER, Block, Kind, Plan
from rvsmjax.sweep.step import Tile, advance, residual
from rvsmjax.theory import Certificate, certificate_at

CHECK_EVERY = 8
"""Steps between looks at the residual: a lane's count of steps is a multiple of it."""

Progress = Callable[[int, int], None]

# XLA prefers half of AVX-512's width; where there is none the preference has no effect.
_OPTIONS: dict[str, dict[str, str | bool]] = {"cpu": {"xla_cpu_prefer_vector_width": "512"}}


@functools.lru_cache(maxsize=64)
def compile_plan(plan: Plan, key_impl: Any) -> Any:
    """Returns the compiled program of a plan: one trace, one executable."""
    number = jnp.dtype(plan.dtype)
    axes = {name: jax.ShapeDtypeStruct((n,), number) for name, n in zip(INNER, plan.lengths, strict=True)}
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
    block: Block, axes: Any, leaves: list[Any], counts: Array, key: Array, tol: Array, max_steps: Array
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


def _draw(block: Block, seeds: Array, tiles: Array, key: Array) -> Array:
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
    block: Block, axes: Any, leaves: list[Any], draws: Array, tol: Array, max_steps: Array, tile: Array
) -> dict[str, Array]:
    plan = block.plan
    which = jnp.searchsorted(jnp.asarray(block.ends), tile, side="right")
    lane = (tile - jnp.asarray((0, *block.ends))[which]) * plan.tile + jnp.arange(plan.tile, dtype=jnp.int32)
    live = lane < jnp.asarray((*block.lanes, 0))[which]
    cells = math.prod(plan.lengths)
    entry, (*places, seed) = lane // cells, jnp.unravel_index(lane % cells, plan.lengths)
    k, lam, beta, rate = (axes[name][place] for name, place in zip(INNER[:-1], places, strict=True))
    drawn = draws[:, :, seed]
    problem = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, k.shape).astype(k.dtype), ACTIVATIONS[plan.activation](k)
    )
    rate = rate if plan.given_rate else problem.largest_learning_rate(beta)

    def run(kind: Kind, own: list[Array]) -> Any:
        w_star, w = drawn[:, : kind.d] * jax.lax.rsqrt(jnp.sum(drawn[:, : kind.d] ** 2, 1, keepdims=True))
        penalty = jax.tree.unflatten(kind.penalty, [leaf[jnp.minimum(entry, len(kind.entries) - 1)] for leaf in own])
        lanes = Tile(problem, penalty, lam, beta, rate, w_star, kind.normalize)
        w, u, *rest = _iterate(kind, plan.engine, lanes, w, live, tol, max_steps)
        vectors = [jnp.pad(v, ((0, kind.rows - kind.d), (0, 0))) for v in (w, w_star, u)]
        return jnp.full(plan.tile, kind.d, jnp.int32), *vectors, *rest

    def idle() -> Any:
        """Past the last tile, on devices that have one less."""
        none, lanes = jnp.zeros_like(draws, shape=(block.kinds[0].rows, plan.tile)), jnp.zeros(plan.tile, jnp.int32)
        return lanes, none, none, none, none[0], lanes, lanes.astype(jnp.int8), lanes[0], lanes[0]

    branches = [functools.partial(run, kind, own) for kind, own in zip(block.kinds, leaves, strict=True)]
    d, w, w_star, u, envelope, steps, status, executed, width = jax.lax.switch(which, [*branches, idle])

    def measure(*lanes: Any) -> Certificate:
        return jax.vmap(certificate_at, in_axes=(0, 0, 0, 0, 1, 1, 1, 0))(*lanes)

    def skip(*lanes: Any) -> Certificate:
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(measure, *lanes))

    # A branch of its own, so that it is compiled alike and rounds alike whatever stands around it.
    lanes = (problem, lam, beta, d, w, w_star, u, envelope)
    measured = jax.lax.cond(which < len(block.kinds), measure, skip, *lanes)
    return {**measured._asdict(), "steps": steps, "status": status, "executed": executed, "width": width}


def _iterate(kind: Kind, engine: str, tile: Tile, w: Array, live: Array, tol: Array, max_steps: Array) -> Any:
    """Runs a tile to the limits of its live lanes, and finds u there."""
    if engine == "xla" or not kernel.fits(kind.d, tile.penalty.separable):
        block = w.shape[1]
        w, executed, steps, status = _loop(tile, w, live, tol, max_steps)
    else:
        block = kernel.lanes_of_a_block(kind.d)
        w, executed, steps, status = kernel.run(_loop, tile, w, live, tol, max_steps, engine == "interpret")
    step = tile.lam / tile.beta
    u = jax.vmap(lambda penalty, v, s: penalty.prox(v, s), (0, 1, 0), 1)(tile.penalty, w, step)
    envelope = jax.vmap(moreau_envelope, (0, 1, 0))(tile.penalty, w, step)
    return w, u, envelope, steps, status, executed, jnp.int32(block)


def _loop(tile: Tile, w: Array, live: Array, tol: Array, max_steps: Array) -> tuple[Array, Array, Array, Array]:
    """Returns w, the steps run, and steps and status of each lane; one that has ended is held still for the others."""

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
    return w, executed, steps, status


class reporting:
    """Sends the progress of the running program to ``progress`` while the block runs."""

    current: reporting | None = None

    def __init__(self, progress: Progress | None, lanes: int, tile: int) -> None:
        self.progress, self.lanes, self.tile, self.done = progress, lanes, tile, 0

    def __enter__(self) -> None:
        reporting.current = self

    def __exit__(self, *exception: Any) -> None:
        jax.effects_barrier()
        reporting.current = None


def _report(_: Any) -> None:
    now = reporting.current
    if now is not None and now.progress is not None:
        now.done = min(now.done + now.tile, now.lanes)
        now.progress(now.done, now.lanes)
