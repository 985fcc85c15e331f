"""The compiled program of a sweep."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from rvsmjax.penalties import moreau_envelope
from rvsmjax.problems import OneLayerProblem
from rvsmjax.solve import Status
from rvsmjax.sweep import cuda, kernel, progress, ptx
from rvsmjax.sweep.grid import ACTIVATIONS
from rvsmjax.sweep.plan import INNER, Block, Kind, Plan
from rvsmjax.sweep.step import UNROLLED, Iteration, Tile
from rvsmjax.theory import Certificate, certificate_at

CHECK_EVERY = 16
"""Steps between looks at the residual: a lane's count of steps is a multiple of it."""
IDLE = 32
"""Steps of a whole tile that may be spent on lanes that have ended before others take their place."""
NO_LIMIT = 2**30

# XLA prefers half of AVX-512's width; where there is none the preference has no effect. What two of these passes move
# out of loops is out of them here already, and with this many loops they take most of the time of compiling. The third
# splits the work on a tile among threads, which costs more than that work; cores are for devices.
_PASSES_LEFT_OUT = "while-loop-invariant-code-motion,simplify-while-loops,cpu-parallel-task-assigner"
_OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_cpu_prefer_vector_width": "512", "xla_disable_hlo_passes": _PASSES_LEFT_OUT}
}


@functools.lru_cache(maxsize=64)
def compile_plan(plan: Plan, key_impl: Any) -> Any:
    """Returns the compiled program of a plan: one trace, one executable."""
    mesh = Mesh(np.asarray(plan.devices), ("lanes",))
    return lower_plan(plan, key_impl, mesh).compile(_OPTIONS.get(plan.devices[0].platform))


def lower_plan(plan: Plan, key_impl: Any, mesh: Mesh | AbstractMesh, platforms: tuple[str, ...] | None = None) -> Any:
    """Returns the lowered program of a plan, for the devices of a mesh or for platforms that need not be there."""
    number = jnp.dtype(plan.dtype)
    axes = {name: jax.ShapeDtypeStruct((n,), number) for name, n in zip(INNER, plan.lengths, strict=True)}
    axes["seed"] = jax.ShapeDtypeStruct((plan.lengths[-1],), jnp.uint32)
    leaves = [[jax.ShapeDtypeStruct((len(k.entries),), number)] * k.penalty.num_leaves for k in plan.kinds]
    count = jax.ShapeDtypeStruct((), jnp.int32)
    cells = jax.ShapeDtypeStruct((math.prod(plan.lengths[:-1]),), jnp.int32)
    tiles = [jax.ShapeDtypeStruct((len(block.kinds) + 1,), jnp.int32) for block in plan.blocks]
    key_data = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=key_impl)))

    def local(
        axes: Any, leaves: Any, cells: Array, counts: Any, key_data: Array, tol: Array, max_steps: Array
    ) -> list[Any]:
        key = jax.random.wrap_key_data(key_data, impl=key_impl)
        own = dict(zip(plan.kinds, leaves, strict=True))
        return [
            _run_block(block, axes, [own[kind] for kind in block.kinds], cells, n, key, tol, max_steps)
            for block, n in zip(plan.blocks, counts, strict=True)
        ]

    tol = jax.ShapeDtypeStruct((), number)
    everywhere, split = PartitionSpec(), PartitionSpec("lanes")
    sharded = jax.shard_map(local, mesh=mesh, in_specs=everywhere, out_specs=split, check_vma=False)
    traced = jax.jit(sharded).trace(axes, leaves, cells, tiles, key_data, tol, count)
    with warnings.catch_warnings():
        # Where the backend is gone for good, ``engines.chosen`` says so.
        warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
        return traced.lower(lowering_platforms=platforms)


class Lanes(NamedTuple):
    """A tile's lanes as all kinds of a block have them: numbers of shape (lanes,), draws of shape (2, rows, lanes).

    Attributes:
      problem: the problem.
      lam: λ.
      beta: β.
      rate: η.
      entry: place among the kind's entries of the penalty axis.
      drawn: normal draws for w* and w⁰, zero beyond d.
      live: whether it is a lane; else padding.
    """

    problem: OneLayerProblem
    lam: Array
    beta: Array
    rate: Array
    entry: Array
    drawn: Array
    live: Array


class State(NamedTuple):
    """Where the lanes of a block on this device have come to.

    Attributes:
      w: of the lanes that have ended, at their places, of shape (places, rows).
      ends: their steps and statuses, of shape (places, 2).
      executed: steps of all blocks of lanes that stop together, by kind.
      kind: the kind that runs.
      head: the next of its lanes.
      place: of each lane in the tile; past the last where there is none.
      tile: w of the tile, of shape (rows, lanes); on the sphere not scaled to it.
      steps: of each lane in the tile.
      status: of each lane in the tile.
    """

    w: Array
    ends: Array
    executed: Array
    kind: Array
    head: Array
    place: Array
    tile: Array
    steps: Array
    status: Array


def _run_block(
    block: Block, axes: Any, leaves: list[Any], cells: Array, counts: Array, key: Array, tol: Array, max_steps: Array
) -> dict[str, Any]:
    """Runs this device's lanes of a block to their limits, then measures them.

    Each kind's lanes are dealt out to the devices tile by tile, so that slow and fast cells are shared out. They run in
    one tile, kind after kind; new lanes take the places of those that have ended, and slow lanes come first, so that
    few are left alone at the end.
    """
    plan, size = block.plan, block.plan.tile
    # The numbers of tiles are arguments: a loop of known length 1 would be inlined, and might round differently.
    rounds, seed_tiles = counts[:-1], counts[-1]
    draws = _draw(block, axes["seed"], seed_tiles, key)
    orders = _orders(block, draws)
    lanes = functools.partial(_lanes, block, axes, cells, draws, orders)
    starts = (0, *itertools.accumulate(block.rounds))
    places, rows = starts[-1] * size, block.kinds[0].rows

    engines = [_engine(plan, kind) for kind in block.kinds]
    runner = [i if engine != "xla" else block.runner(i) for i, engine in enumerate(engines)]
    runners = list(dict.fromkeys(runner))
    runs = [functools.partial(_run, plan, block.kinds[i], leaves[i], tol, max_steps, engines[i]) for i in runners]
    # One more branch, never taken: a single one would be inlined, and might round differently.
    runs.append(lambda lanes, fresh, w, steps, status, budget: (w, w, steps, status, budget))  # type: ignore[arg-type]
    branch = jnp.asarray([runners.index(i) for i in runner])
    widths = jnp.asarray([kind.d for kind in block.kinds], jnp.int32)

    def one(state: State) -> State:
        free = ~_running(state.steps, state.status, max_steps)
        total = rounds[state.kind] * size
        new = state.head + jnp.cumsum(free, dtype=jnp.int32) - 1
        fresh = free & (new < total)
        place = jnp.where(free, jnp.where(fresh, new, places), state.place)
        head = jnp.minimum(state.head + jnp.sum(free, dtype=jnp.int32), total)
        budget = jnp.where(head < total, IDLE * size, NO_LIMIT).astype(jnp.int32)
        own = lanes(state.kind, place)
        w, limits, steps, status, executed = jax.lax.switch(
            branch[state.kind], runs, own, fresh, state.tile, state.steps, state.status, budget
        )
        ended = ~_running(steps, status, max_steps) & (place < places)
        there = jnp.where(ended, jnp.asarray(starts)[state.kind] * size + place, places)  # else nowhere
        if plan.progress:
            jax.debug.callback(progress.report, jnp.sum(ended & own.live))
        through = (head >= total) & ~jnp.any(_running(steps, status, max_steps))
        return State(
            w=state.w.at[there].set(limits.T, mode="drop"),
            ends=state.ends.at[there].set(jnp.stack([steps, status.astype(jnp.int32)], 1), mode="drop"),
            executed=state.executed.at[state.kind].add(executed),
            kind=state.kind + through,
            head=jnp.where(through, 0, head),
            place=place,
            tile=w,
            steps=steps,
            status=status,
        )

    none = jnp.zeros((), jnp.int32)
    state = State(
        w=jnp.zeros((places, rows), plan.dtype),
        ends=jnp.zeros((places, 2), jnp.int32),
        executed=jnp.zeros(len(block.kinds), jnp.int32),
        kind=none,
        head=none,
        place=jnp.full(size, places, jnp.int32),
        tile=jnp.zeros((rows, size), plan.dtype),
        steps=jnp.zeros(size, jnp.int32),
        status=jnp.full(size, Status.CONVERGED, jnp.int8),
    )
    state = jax.lax.while_loop(lambda state: state.kind < len(block.kinds), one, state)

    groups = list(dict.fromkeys(kind.measured_with for kind in block.kinds))
    group_of = [groups.index(kind.measured_with) for kind in block.kinds]
    first_of = [group_of.index(g) for g in range(len(groups))]
    limits: list[Callable[..., Any]] = [functools.partial(_limits, block.kinds[i], leaves[i]) for i in first_of]
    limits.append(lambda lanes, w: (w, w, w, w[0]))

    def measure(*lanes: Any) -> Certificate:
        return jax.vmap(certificate_at, in_axes=(0, 0, 0, 0, 1, 1, 1, 0))(*lanes)

    def nothing(*shape: int) -> Certificate:
        return Certificate(*(jnp.zeros(shape, int if f == "zeros" else plan.dtype) for f in Certificate._fields))

    def measured(i: Array) -> Certificate:
        which = jnp.searchsorted(jnp.asarray(starts[1:]), i, side="right").astype(jnp.int32)
        first = (i - jnp.asarray(starts)[which]) * size
        own = lanes(which, first + jnp.arange(size, dtype=jnp.int32))
        w = jax.lax.dynamic_slice_in_dim(state.w, i * size, size).T
        d = jnp.full(size, widths[which])
        # Branches of their own, so that they are compiled alike and round alike whatever stands around them.
        found = jax.lax.switch(jnp.asarray(group_of)[which], limits, own, w)
        lanes_and_limits = own.problem, own.lam, own.beta, d, *found
        return jax.lax.cond(i < sum(rounds), measure, lambda *_: nothing(size), *lanes_and_limits)

    def store(i: Array, stored: Certificate) -> Certificate:
        return jax.tree.map(lambda a, b: jax.lax.dynamic_update_index_in_dim(a, b, i, 0), stored, measured(i))

    room = nothing(starts[-1], size)
    found = jax.lax.fori_loop(0, sum(rounds), store, room)
    steps, status = (column.reshape(-1, size) for column in state.ends.T)
    together = {"xla": lambda d: size, "cuda": cuda.lanes_of_a_warp}
    at_once = [
        together.get(engine, kernel.lanes_of_a_block)(k.d) for k, engine in zip(block.kinds, engines, strict=True)
    ]
    return {
        **found._asdict(),
        "steps": steps,
        "status": status.astype(jnp.int8),
        "executed": state.executed,
        "width": jnp.asarray(at_once, jnp.int32),
        "orders": orders,
    }


@functools.lru_cache(maxsize=1024)
def _engine(plan: Plan, kind: Kind) -> str:
    """Returns what runs a kind: the plan's engine, or ``xla`` where that lacks something of the kind."""
    if plan.engine != "cuda":
        return plan.engine if plan.engine == "xla" or kernel.fits(kind.d, kind.separable) else "xla"
    if not cuda.fits(kind.d, kind.separable, kind.zeros_stay, plan.dtype):
        return "xla"
    lane, lane_int = (jax.ShapeDtypeStruct((plan.tile,), dtype) for dtype in (jnp.float32, jnp.int32))
    vector, number = jax.ShapeDtypeStruct((kind.d, plan.tile), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)

    def written(w: Array, w_star: Array, steps: Array, tol: Array, *lanes: Array) -> Array:
        k, lam, beta, rate, *leaves = lanes
        penalty = jax.tree.unflatten(kind.penalty, leaves)
        tile = Tile(ACTIVATIONS[plan.activation](k), penalty, lam, beta, rate, w_star, kind.normalize)
        cuda.source(_judge, CHECK_EVERY, tile, w, steps, steps, tol)
        return w

    try:
        jax.eval_shape(written, vector, vector, lane_int, number, *[lane] * (4 + kind.penalty.num_leaves))
    except ptx.Unsupported as lacking:
        warnings.warn(f"engine 'cuda' lacks {lacking}; XLA's loop runs {kind.like(0.0).name}", stacklevel=2)
        return "xla"
    return "cuda"


def _draw(block: Block, seeds: Array, tiles: Array, key: Array) -> Array:
    """Returns normal draws for w* and w⁰ of every seed, of shape (seeds rounded up to tiles, 2, rows).

    Lanes of smaller d take the first d of the rows.
    """
    tile, rows = block.plan.tile, block.kinds[0].rows
    seeds = jnp.pad(seeds, (0, -len(seeds) % tile))

    def draw(seed: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, seed), (2, rows), block.plan.dtype)

    def one(i: Array, stored: Array) -> Array:
        drawn = jax.vmap(draw)(jax.lax.dynamic_slice_in_dim(seeds, i * tile, tile))
        return jax.lax.dynamic_update_slice_in_dim(stored, drawn, i * tile, 0)

    return jax.lax.fori_loop(0, tiles, one, jnp.zeros((len(seeds), 2, rows), block.plan.dtype))


def _orders(block: Block, draws: Array) -> Array:
    """Returns for each d of a block its seeds, of shape (widths, seeds), those first that begin far from w*.

    That angle tells most of how many steps a lane needs.
    """
    a, b = draws[: block.plan.lengths[-1]].swapaxes(0, 1)
    within = jnp.arange(a.shape[1]) < jnp.asarray(block.widths)[:, None]
    inner, square, square_star = (within.astype(a.dtype) @ part.T for part in (a * b, a * a, b * b))
    return jnp.argsort(inner * jax.lax.rsqrt(square * square_star), 1).astype(jnp.int32)


def _lanes(block: Block, axes: Any, cells: Array, draws: Array, orders: Array, kind: Array, place: Array) -> Lanes:
    """Returns the lanes at some places of this device's list of a kind.

    Places are by cell, in the order of ``cells``, then by entry of the penalty axis, then by seed in the order of the
    kind's d: slow ones first. Those past the last lane are padding.
    """
    plan = block.plan
    tile, column = place // plan.tile, place % plan.tile
    whole = (tile * len(plan.devices) + jax.lax.axis_index("lanes")) * plan.tile + column
    entries, seeds = jnp.asarray([len(k.entries) for k in block.kinds])[kind], plan.lengths[-1]
    live = whole < jnp.asarray(block.lanes)[kind]
    rank, entry, seed = whole // (entries * seeds), whole // seeds % entries, whole % seeds
    places = jnp.unravel_index(cells[jnp.minimum(rank, len(cells) - 1)], plan.lengths[:-1])
    k, lam, beta, rate = (axes[name][place] for name, place in zip(INNER[:-1], places, strict=True))
    width = jnp.asarray([block.widths.index(k.d) for k in block.kinds])[kind]
    order, d = orders[width], jnp.asarray(block.widths)[width]
    problem = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, k.shape).astype(k.dtype), ACTIVATIONS[plan.activation](k)
    )
    rate = rate if plan.given_rate else problem.largest_learning_rate(beta)
    drawn = jnp.moveaxis(draws[order[seed]], 0, 2)
    drawn = jnp.where(jnp.arange(drawn.shape[1])[:, None] < d, drawn, 0)
    return Lanes(problem, lam, beta, rate, entry, drawn, live)


def _tile(kind: Kind, leaves: list[Array], lanes: Lanes) -> tuple[Tile, Array]:
    """Returns the lanes as a tile of their kind, and w⁰."""
    # Over all rows, zeros below d: in code that several d share the sum rounds as elsewhere.
    units = lanes.drawn * jax.lax.rsqrt(jnp.sum(lanes.drawn**2, 1, keepdims=True))
    w_star, w = units[:, : kind.d]
    penalty = jax.tree.unflatten(kind.penalty, [leaf[lanes.entry] for leaf in leaves])
    return Tile(lanes.problem, penalty, lanes.lam, lanes.beta, lanes.rate, w_star, kind.normalize), w


def _run(
    plan: Plan,
    kind: Kind,
    leaves: list[Array],
    tol: Array,
    max_steps: Array,
    engine: str,
    lanes: Lanes,
    fresh: Array,
    w: Array,
    steps: Array,
    status: Array,
    budget: Array,
) -> tuple[Array, Array, Array, Array, Array]:
    """Runs the tile of a kind, ``fresh`` lanes from their start, until it stops: w, scaled w, steps, status, steps run.

    Its d may be less than that of the kind, see ``Block.runner``; the rows beyond are zero then, and stay so.
    """
    tile, start = _tile(kind, leaves, lanes)
    own = jnp.where(fresh, start, w[: kind.d])
    steps = jnp.where(fresh, 0, steps)
    status = jnp.where(fresh, jnp.where(lanes.live, Status.CAP, Status.CONVERGED), status).astype(jnp.int8)
    if engine == "cuda":
        own, executed, steps, status = cuda.run(_judge, CHECK_EVERY, tile, own, steps, status, tol, max_steps)
    elif engine != "xla":
        interpret = engine == "interpret"
        own, executed, steps, status = kernel.run(_loop, tile, own, steps, status, tol, max_steps, interpret)
    else:
        tile = tile._replace(unrolled=plan.devices[0].platform == "cpu" and kind.d <= UNROLLED)
        own, executed, steps, status = _loop(tile, own, steps, status, budget, tol, max_steps)
    below = ((0, kind.rows - kind.d), (0, 0))
    return jnp.pad(own, below), jnp.pad(tile.scaled(own), below), steps, status, executed


def _limits(kind: Kind, leaves: list[Array], lanes: Lanes, w: Array) -> tuple[Array, ...]:
    """Returns w, w*, u and the envelope of the penalty at the limits of a tile; of any d where zeros do not count."""
    if kind.measured_with == kind.entries:
        kind = dataclasses.replace(kind, d=kind.rows)
    tile, _ = _tile(kind, leaves, lanes)
    own, step = w[: kind.d], tile.lam / tile.beta
    u = jax.vmap(lambda penalty, v, s: penalty.prox(v, s), (0, 1, 0), 1)(tile.penalty, own, step)
    if kind.separable:
        each = jax.vmap(jax.vmap(moreau_envelope, (None, 0, None)), (0, 1, 0), 1)(tile.penalty, own, step)
        # By row: how XLA's library rounds depends on what it finds around a sum, and so on the number of devices.
        envelope = tile._replace(unrolled=True).sum(lambda row: row, each)
    else:
        envelope = jax.vmap(moreau_envelope, (0, 1, 0))(tile.penalty, own, step)
    vectors = [jnp.pad(v, ((0, kind.rows - kind.d), (0, 0))) for v in (own, tile.w_star, u)]
    return *vectors, envelope


def _running(steps: Array, status: Array, max_steps: Array) -> Array:
    """Tells which lanes go on. Until it ends in another way a lane is one that the cap would end."""
    return (status == Status.CAP) & (steps < max_steps)


def _judge(
    iteration: Iteration, w: Array, going: Array, steps: Array, status: Array, tol: Array
) -> tuple[Array, Array]:
    """Returns the steps and the statuses of a tile whose lanes, those that were running, have gone on to w."""
    res = iteration.residual(w)
    ended = jnp.where(res <= tol, Status.CONVERGED, Status.CAP)
    status = jnp.where(going, jnp.where(jnp.isfinite(res), ended, Status.DIVERGED), status).astype(status.dtype)
    return steps + CHECK_EVERY * going, status


def _loop(
    tile: Tile, w: Array, steps: Array, status: Array, budget: Array | int, tol: Array, max_steps: Array
) -> tuple[Array, Array, Array, Array]:
    """Runs a tile until its lanes have ended, or until those that have, held still, have cost ``budget`` lane-steps.

    Returns:
      w, the steps run, the steps of each lane, the status of each lane.
    """
    iteration = Iteration(tile)

    def live(steps: Array, status: Array) -> Array:
        return jnp.sum(_running(steps, status, max_steps), dtype=jnp.int32)

    def body(carry: Any) -> Any:
        w, t, steps, status, idle, _ = carry
        going = _running(steps, status, max_steps)
        w = iteration.advance(w, going, CHECK_EVERY)
        steps, status = _judge(iteration, w, going, steps, status, tol)
        left = live(steps, status)
        idle = jnp.minimum(idle + CHECK_EVERY * (len(steps) - left), NO_LIMIT)
        return w, t + CHECK_EVERY, steps, status, idle, left

    def unfinished(carry: Any) -> Array:
        *_, idle, left = carry
        return (left > 0) & ((idle < budget) | (budget == NO_LIMIT))

    none = jnp.zeros((), jnp.int32)
    # Scalars that nobody reads after the loop come last: XLA's Triton crashes on one that stands before a vector.
    begin = (w, none, steps, status, none, live(steps, status))
    w, executed, steps, status, *_ = jax.lax.while_loop(unfinished, body, begin)
    return w, executed, steps, status
