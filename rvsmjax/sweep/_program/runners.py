"""Runners of a block: the compiled code, XLA's loop or a kernel, that runs the tiles of each kind."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rvsmjax.solve import Status
from rvsmjax.sweep._program.draws import Lanes, tile_of
from rvsmjax.sweep._program.plan import Block, Kind, Plan
from rvsmjax.sweep._tiles import cuda, graph, loop, pallas
from rvsmjax.sweep._tiles.step import Tile
from rvsmjax.sweep.grid import Factory


def engine_of(plan: Plan, kind: Kind) -> str:
    """Returns the engine of a kind: the plan's, or ``xla`` if that does not support the kind."""
    if plan.engine != "cuda":
        return plan.engine if plan.engine == "xla" or pallas.fits(kind.d, kind.separable) else "xla"
    fits = cuda.fits(kind.d, kind.separable, kind.fixes_zero, plan.dtype)
    return "cuda" if fits and _translatable(kind.penalty, plan.problem, kind.normalize) else "xla"


@functools.lru_cache(maxsize=1024)
def _translatable(penalty: Any, problem: Factory, normalize: bool) -> bool:
    """Returns whether the step translates to PTX, which does not depend on d; warns if not."""
    lane, lane_int = (jax.ShapeDtypeStruct((64,), dtype) for dtype in (jnp.float32, jnp.int32))
    vector, scalar = jax.ShapeDtypeStruct((2, 64), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)

    def translate(w: Array, w_star: Array, steps: Array, tol: Array, *lanes: Array) -> Array:
        k, lam, beta, rate, *leaves = lanes
        tile = Tile(problem(k), jax.tree.unflatten(penalty, leaves), lam, beta, rate, w_star, normalize)
        cuda.source(loop.check, loop.CHECK_EVERY, tile, w, steps, steps, tol)
        return w

    try:
        jax.eval_shape(translate, vector, vector, lane_int, scalar, *[lane] * (4 + penalty.num_leaves))
    except graph.Unsupported as unsupported:
        name = jax.tree.unflatten(penalty, [0.0] * penalty.num_leaves).name
        warnings.warn(f"engine 'cuda' does not support {unsupported}; using 'xla' for {name}", stacklevel=2)
        return False
    return True


def runs_whole_tiles(block: Block) -> bool:
    """Returns whether every tile of a block runs to completion in one call, as in a kernel."""
    return all(engine_of(block.plan, kind) != "xla" for kind in block.kinds)


def stores_in_grid_order(block: Block) -> bool:
    """Returns whether the device, not the host, stores results in grid order: a single one that runs kernels."""
    return runs_whole_tiles(block) and len(block.plan.devices) == 1 and block.lane_offsets[-1] + block.plan.tile < 2**31


class Runners:
    """The code that runs the kinds of a block; kinds that differ only in d may share the code of the largest d.

    Attributes:
      engines: engine of each kind.
      branch: index into ``branches`` of each kind.
      branches: functions of (lanes, fresh, w, steps, status, budget), see ``run_tile``.
      group_sizes: lanes that stop together, for each kind.
    """

    def __init__(self, block: Block, leaves: list[list[Array]], tol: Array, max_steps: Array) -> None:
        plan, kinds = block.plan, block.kinds
        self.engines = [engine_of(plan, kind) for kind in kinds]
        owners = [block.runner(i) if engine in ("xla", "cuda") else i for i, engine in enumerate(self.engines)]
        distinct = list(dict.fromkeys(owners))
        self.branch = [distinct.index(i) for i in owners]
        self.branches: list[Callable[..., Any]] = [
            functools.partial(run_tile, plan, kinds[i], leaves[i], tol, max_steps, self.engines[i]) for i in distinct
        ]
        # Rule 1.
        self.branches.append(lambda lanes, fresh, w, steps, status, budget: (w, w, steps, status, budget))
        size_of = {"xla": lambda d: plan.tile, "cuda": cuda.lanes_per_warp}
        self.group_sizes = [
            size_of.get(engine, pallas.lanes_per_block)(kinds[i].d)
            for i, engine in zip(owners, self.engines, strict=True)
        ]

    def __call__(self, kind: Array, *args: Any) -> tuple[Array, ...]:
        """Runs a tile of a kind, see ``run_tile``."""
        return tuple(jax.lax.switch(jnp.asarray(self.branch)[kind], self.branches, *args))


def run_tile(
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
    """Runs a tile until its engine stops; ``fresh`` lanes start from w⁰.

    The lanes may have a smaller d than ``kind``, see ``Block.runner``; their remaining rows are zero and stay zero.

    Args:
      plan: the plan.
      kind: the kind whose code runs the tile.
      leaves: parameters of its penalties, by entry.
      tol: convergence threshold.
      max_steps: step cap.
      engine: the engine.
      lanes: lanes of the tile.
      fresh: mask of the lanes that start, of shape (lanes,).
      w: w of the other lanes, of shape (rows, lanes).
      steps: their steps so far.
      status: their status.
      budget: lane-steps that XLA's loop may spend on finished lanes; kernels ignore it.

    Returns:
      w before and after scaling to the sphere, of shape (rows, lanes); steps; status; steps executed, summed over the
      groups of lanes that stop together.
    """
    tile, start = tile_of(kind, leaves, lanes)
    w = jnp.where(fresh, start, w[: kind.d])
    steps = jnp.where(fresh, 0, steps)
    status = jnp.where(fresh, jnp.where(lanes.live, Status.CAP, Status.CONVERGED), status).astype(jnp.int8)
    if engine == "cuda":
        w, executed, steps, status = cuda.run(loop.check, loop.CHECK_EVERY, tile, w, steps, status, tol, max_steps)
    elif engine != "xla":
        interpret = engine == "interpret"
        w, executed, steps, status = pallas.run(loop.run, tile, w, steps, status, tol, max_steps, interpret)
    else:
        tile = tile._replace(unrolled=plan.devices[0].platform == "cpu")
        w, executed, steps, status = loop.run(tile, w, steps, status, budget, tol, max_steps)
    padding = ((0, kind.rows - kind.d), (0, 0))
    return jnp.pad(w, padding), jnp.pad(tile.scaled(w), padding), steps, status, executed
