"""Sweeps: grids of random problems, run to convergence in one call."""

from rvsmjax.sweep._tiles.loop import CHECK_EVERY as CHECK_EVERY
from rvsmjax.sweep._tiles.step import Iteration as Iteration
from rvsmjax.sweep._tiles.step import Tile as Tile
from rvsmjax.sweep.engine import run_sweep as run_sweep
from rvsmjax.sweep.grid import Grid as Grid
from rvsmjax.sweep.lower import lower_sweep as lower_sweep
from rvsmjax.sweep.result import SweepResult as SweepResult
from rvsmjax.sweep.result import labels as labels
from rvsmjax.sweep.slabs import Slab as Slab
from rvsmjax.sweep.slabs import slabs as slabs
from rvsmjax.sweep.subjects import Lane as Lane
