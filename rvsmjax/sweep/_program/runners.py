"""What runs the tiles of a kind: XLA's loop or a kernel."""

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
from rvsmjax.sweep._tiles.step import UNROLLED, Tile
from rvsmjax.sweep.grid import Problem


def engine_of(plan: Plan, kind: Kind) -> str:
    """Returns what runs a kind: the plan's engine, or ``xla`` where that lacks something of the kind."""
    if plan.engine != "cuda":
        return plan.engine if plan.engine == "xla" or pallas.fits(kind.d, kind.separable) else "xla"
    fits = cuda.fits(kind.d, kind.separable, kind.zeros_stay, plan.dtype)
    return "cuda" if fits and _translates(kind.penalty, plan.problem, kind.normalize) else "xla"


@functools.lru_cache(maxsize=1024)
def _translates(penalty: Any, problem: Problem, normalize: bool) -> bool:
    """Tells whether steps of such lanes have a translation, and warns where they have none; of any d alike."""
    lane, lane_int = (jax.ShapeDtypeStruct((64,), dtype) for dtype in (jnp.float32, jnp.int32))
    vector, number = jax.ShapeDtypeStruct((2, 64), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)

    def written(w: Array, w_star: Array, steps: Array, tol: Array, *lanes: Array) -> Array:
        k, lam, beta, rate, *leaves = lanes
        like = jax.tree.unflatten(penalty, leaves)
        tile = Tile(problem(k), like, lam, beta, rate, w_star, normalize)
        cuda.source(loop.judge, loop.CHECK_EVERY, tile, w, steps, steps, tol)
        return w

    try:
        jax.eval_shape(written, vector, vector, lane_int, number, *[lane] * (4 + penalty.num_leaves))
    except graph.Unsupported as lacking:
        name = jax.tree.unflatten(penalty, [0.0] * penalty.num_leaves).name
        warnings.warn(f"engine 'cuda' lacks {lacking}; XLA's loop runs {name}", stacklevel=2)
        return False
    return True


def in_whole_tiles(block: Block) -> bool:
    """Tells whether every tile of a block runs to its end at once, as kernels do."""
    return all(engine_of(block.plan, kind) != "xla" for kind in block.kinds)


def stored_at_home(block: Block) -> bool:
    """Tells whether the device puts results in the grid's order: one that runs kernels; else the host does."""
    return in_whole_tiles(block) and len(block.plan.devices) == 1 and block.homes[-1] + block.plan.tile < 2**31


class Runners:
    """What runs the kinds of a block: kinds that are alike but for d may share the code of the widest.

    Attributes:
      engines: of each kind.
      branch: of each kind, the place of its code among ``codes``.
      codes: functions of (lanes, fresh, w, steps, status, budget), see ``run_tile``.
      together: lanes of each kind that stop together.
    """

    def __init__(self, block: Block, leaves: list[list[Array]], tol: Array, max_steps: Array) -> None:
        plan, kinds = block.plan, block.kinds
        self.engines = [engine_of(plan, kind) for kind in kinds]
        by = [block.runner(i) if engine in ("xla", "cuda") else i for i, engine in enumerate(self.engines)]
        own = list(dict.fromkeys(by))
        self.branch = [own.index(i) for i in by]
        self.codes: list[Callable[..., Any]] = [
            functools.partial(run_tile, plan, kinds[i], leaves[i], tol, max_steps, self.engines[i]) for i in own
        ]
        # Rule 1.
        self.codes.append(lambda lanes, fresh, w, steps, status, budget: (w, w, steps, status, budget))
        lengths = {"xla": lambda d: plan.tile, "cuda": cuda.lanes_of_a_warp}
        self.together = [
            lengths.get(engine, pallas.lanes_of_a_block)(kinds[i].d) for i, engine in zip(by, self.engines, strict=True)
        ]

    def __call__(self, kind: Array, *args: Any) -> tuple[Array, ...]:
        """Runs a tile of a kind, see ``run_tile``."""
        return tuple(jax.lax.switch(jnp.asarray(self.branch)[kind], self.codes, *args))


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
    """Runs the tile of a kind, ``fresh`` lanes from their start, until it stops.

    Its d may be less than that of the kind, see ``Block.runner``; the rows beyond are zero then, and stay so.

    Args:
      plan: the plan.
      kind: the kind.
      leaves: numbers of its entries of the penalty axis.
      tol: residual at which a lane ends.
      max_steps: step cap.
      engine: what runs it.
      lanes: of the tile.
      fresh: of shape (lanes,): which of them begin.
      w: of the others, of shape (rows, lanes).
      steps: theirs, so far.
      status: theirs.
      budget: lane-steps that may be spent on lanes that have ended, of XLA's loop; kernels have no such thing.

    Returns:
      w and w on the sphere, of shape (rows, lanes); steps; status; steps of all that stops together, summed.
    """
    tile, start = tile_of(kind, leaves, lanes)
    own = jnp.where(fresh, start, w[: kind.d])
    steps = jnp.where(fresh, 0, steps)
    status = jnp.where(fresh, jnp.where(lanes.live, Status.CAP, Status.CONVERGED), status).astype(jnp.int8)
    if engine == "cuda":
        own, executed, steps, status = cuda.run(loop.judge, loop.CHECK_EVERY, tile, own, steps, status, tol, max_steps)
    elif engine != "xla":
        interpret = engine == "interpret"
        own, executed, steps, status = pallas.run(loop.run, tile, own, steps, status, tol, max_steps, interpret)
    else:
        tile = tile._replace(unrolled=plan.devices[0].platform == "cpu" and kind.d <= UNROLLED)
        own, executed, steps, status = loop.run(tile, own, steps, status, budget, tol, max_steps)
    below = ((0, kind.rows - kind.d), (0, 0))
    return jnp.pad(own, below), jnp.pad(tile.scaled(own), below), steps, status, executed
