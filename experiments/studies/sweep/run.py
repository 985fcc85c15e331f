"""Sweep over one-layer problems, slab by slab."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich.console import Console

from ...cli.flags import HOW
from ...cli.interrupts import mendable
from ...cli.runner import Report, conduct
from ...one_layer import slabs
from ...records.environment import Clock
from ...records.folder import BadInput, Facts
from .config import SLAB, SweepConfig, make_grid


def run(config: SweepConfig, console: Console, clock: Clock) -> Path:
    """Runs the sweep and returns the record's folder; only the first of several processes writes a record.

    Raises:
      BadInput: an invalid flag.
    """
    config = config.resolved()
    for name in ("slab", "processes"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise BadInput(f"{name} must be a whole number >= 1, got {value}")
    with clock.phase("set-up"):
        import jax

        from rvsmjax import sweep

        from ...one_layer.output import how_it_went, write_summary
        from .report import sweep_sections

        with mendable():
            grid = make_grid(config)
        slabs.check_disk(grid.size, config.out or Path("results"), "total")
        on_cpu = jax.devices()[0].platform == "cpu"
        parts = sweep.slabs(grid, config.slab or SLAB[on_cpu])
        key = jax.random.key(config.key)
        options = {"key": key, "tol": config.tol, "max_steps": config.max_steps, "dtype": config.precision}

    if jax.process_index() > 0:
        slabs.assist(parts, options)
        return Path()

    def work(folder: Path) -> tuple[Facts, Report]:
        lanes, facts = slabs.compute(folder, grid, parts, options, config.quiet)
        clock.seconds |= {"compilation": facts["compile_seconds"], "run": facts["run_seconds"]}
        with clock.phase("report"):
            places = [part.place for part in parts]
            summary, figures = write_summary(folder, lanes, places)
        return how_it_went(grid.size, facts, summary), lambda facts: sweep_sections(summary, facts, figures)

    values = {name: value for name, value in dataclasses.asdict(config).items() if name not in HOW}
    platform = {"jax": jax.__version__, "devices": [device.device_kind for device in jax.local_devices()[:1]]}
    settings = values | platform if len(parts) > 1 else None
    return conduct("sweep", "RVSM on the one-layer network", config, console, clock, work, settings)
