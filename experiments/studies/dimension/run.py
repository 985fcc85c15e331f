"""The sweep over d and its reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ...cli.interrupts import in_thread, mendable, shown_progress
from ...cli.runner import Report, conduct
from ...records.environment import Clock
from ...records.folder import BadInput, Facts

if TYPE_CHECKING:
    import rvsmjax as rv
    from rvsmjax.sweep import SweepResult
from .config import DimensionConfig


def run(config: DimensionConfig, console: Console, clock: Clock) -> Path:
    """Runs the study and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """
    with clock.phase("set-up"):
        from ...reports import vega
        from . import report as dimension_report
        from . import simulate

        with mendable():
            grid = make_grid(config)
            try:
                t = simulate.thresholds(grid)
            except NotImplementedError as error:
                raise BadInput(f"penalty must have a fixed threshold, got {', '.join(config.penalty)}") from error

    def limits(progress: Callable[[int, int], None] | None) -> tuple[SweepResult, SweepResult]:
        return simulate.limits(grid, config.key, config.tol, config.max_steps, progress)

    def work(folder: Path) -> tuple[Facts, Report]:
        with shown_progress(config.quiet) as progress, mendable():
            results = in_thread(lambda: limits(progress))
        clock.seconds["compilation"] = sum(result.compile_seconds for result in results)
        clock.seconds["run"] = sum(result.run_seconds for result in results)
        with clock.phase("report"):
            table = simulate.tabulate(grid, *results, t)
            table.to_csv(folder / "dimension.csv", index=False)
            vega.save({"dimension": dimension_report.figure(table)}, folder)
        result, reference = results
        facts = {
            "devices": list(result.devices),
            "lanes": grid.size,
            "status": result.counts,
            "status_reference": reference.counts,
        }
        return facts, dimension_report.sections(table, config)

    return conduct("dimension", "Dimensions at which RVSM sets every component to zero", config, console, clock, work)


def make_grid(config: DimensionConfig) -> rv.Grid:
    """Returns the grid that the flags describe."""
    import rvsmjax as rv

    from ...penalties.registry import for_grid

    axes = ("d", "k", "lam", "beta", "a", "seeds")
    return rv.Grid(**{name: getattr(config, name) for name in axes}, penalty=for_grid(config.penalty, config.a))
