"""The grid and the runs of Figure 4."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ...cli.interrupts import in_thread, mendable, shown_progress
from ...cli.runner import Report, conduct
from ...one_layer.slabs import FACTS
from ...records.environment import Clock
from ...records.folder import BadInput, Facts

if TYPE_CHECKING:
    import xarray as xr

    from rvsmjax.sweep import SweepResult
from .config import BinaryConfig

MOST_FOLLOWED = 4000
"""Maximum number of seeds with a Lagrangian recorded at every step."""


def run(config: BinaryConfig, console: Console, clock: Clock) -> Path:
    """Runs the grid and the descents of Figure 4 and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """
    config = config.resolved()
    for name in ("figure_runs", "figure_steps"):
        if getattr(config, name) < 1:
            raise BadInput(f"{name} must be a whole number >= 1, got {getattr(config, name)}")
    with clock.phase("set-up"):
        import jax

        from rvsmjax.sweep import Grid, run_sweep

        from ...one_layer.output import how_it_went, write_summary
        from ...penalties.registry import for_grid
        from ...records.zarr_store import write_zarr
        from ...reports import vega
        from . import figures as binary_plots
        from . import report as binary_report
        from . import simulate as binary_data

        axes = ["penalty", "d", "k", "lam", "beta", "a", "learning_rate", "seeds"]
        with mendable():
            penalties = for_grid(config.penalty, config.a)
            values = {name: getattr(config, name) for name in axes}
            grid = Grid(**values | {"penalty": penalties, "activation": "binary"})

    def sweep(progress: Callable[[int, int], None] | None) -> tuple[SweepResult, xr.Dataset]:
        with jax.enable_x64(config.precision == "float64"):
            result = run_sweep(
                grid,
                jax.random.key(config.key),
                tol=config.tolerance(),
                max_steps=config.max_steps,
                dtype=config.precision,
                progress=progress,
            )
            return result, result.to_xarray()

    def work(folder: Path) -> tuple[Facts, Report]:
        with shown_progress(config.quiet) as progress, mendable():
            result, lanes = in_thread(lambda: sweep(progress))
        clock.seconds |= {"compilation": result.compile_seconds, "run": result.run_seconds}
        with clock.phase("figure 4"):
            descents = in_thread(lambda: binary_data.descents(config.key, config.figure_runs, config.figure_steps))
            count = min(config.seeds, MOST_FOLLOWED)
            many = in_thread(lambda: [binary_data.many(config.key, count, penalty) for penalty in grid.values.penalty])
        with clock.phase("report"):
            write_zarr(lanes, folder / "data.zarr")
            summary, figures = write_summary(folder, lanes)
            descents.drop_vars(["steps", "converged"]).to_dataframe().to_csv(folder / "figure_4.csv")
            vega.save({"figure_4": binary_plots.figure_4(descents)}, folder)
        facts = {name: getattr(result, name) for name in ("devices", *FACTS)}
        return how_it_went(grid.size, facts, summary), lambda facts: binary_report.sections(
            lanes, summary, descents, many, facts, figures
        )

    return conduct("binary", "RVSCGD on the one-layer network", config, console, clock, work)
