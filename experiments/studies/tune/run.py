"""Tuning of all cells."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.console import Console

from ...cli.interrupts import in_thread, mendable
from ...cli.runner import Report, check_axes, conduct
from ...penalties.registry import find
from ...records.environment import Clock
from ...records.folder import BadInput, Facts

if TYPE_CHECKING:
    import xarray as xr

    from .problem import Cell, Choice
from .config import TUNERS, TuneConfig


def run(config: TuneConfig, console: Console, clock: Clock) -> Path:
    """Tunes every cell and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """
    _check(config)

    def work(folder: Path) -> tuple[Facts, Report]:
        with clock.phase("set-up"):
            from ...records.zarr_store import write_zarr
            from ...reports import vega
            from . import figures as tune_plots
            from . import report as tune_report
            from . import summary as tune_summary
        with clock.phase("run"):
            results, paths = in_thread(lambda: tune_all(config))
        with clock.phase("report"):
            table = tune_summary.summarize(results)
            table.to_csv(folder / "summary.csv", index=False)
            paths.to_csv(folder / "paths.csv", index=False)
            write_zarr(results, folder / "data.zarr")
            figures = tune_plots.tune_figures(results, paths)
            vega.save(figures, folder)
        return {}, tune_report.sections(results, table, list(figures))

    return conduct("tune", "Tuned at a required sparsity", config, console, clock, work)


def tune_all(config: TuneConfig) -> tuple[xr.Dataset, pd.DataFrame]:
    """Returns each tuner's choice in each cell with its held-out angles, and the paths of the descents."""
    import jax
    import xarray as xr

    from . import problem as tuning

    key = jax.random.key(config.key)
    cells, paths = [], []
    for d, zeros in itertools.product(config.d, config.truth_zeros):
        # Held-out seeds follow the training seeds and are not used for tuning.
        training = tuning.draw(key, range(config.seeds), d, zeros)
        held_out = tuning.draw(key, range(config.seeds, config.seeds + config.held_out), d, zeros)
        for kind, sparsity in itertools.product(config.penalty, config.sparsity):
            cell = tuning.Cell(kind, config.k, sparsity, training)
            labels = {"penalty": kind, "d": d, "truth_zeros": zeros, "sparsity": sparsity}
            choices, path = _tune(cell, config.iterations)
            paths += [labels | {"iteration": i} | row for i, row in enumerate(path)]
            for tuner, (choice, seconds) in choices.items():
                scalars = choice._asdict() | {"lam": choice.lam(kind), "seconds": seconds}
                scalars |= {f"train_{name}": scalars.pop(name) for name in ("theta", "share")}
                measured = tuning.measure(cell, choice, held_out)
                data = {name: ("seed", values) for name, values in measured.items()}
                one = xr.Dataset(data | scalars, labels | {"tuner": tuner})
                cells.append(one.expand_dims([*labels, "tuner"]))
    combined = xr.combine_by_coords(cells, combine_attrs="drop")
    assert isinstance(combined, xr.Dataset)
    order = {"penalty": list(config.penalty), "tuner": list(TUNERS)}
    return combined.sel(order), pd.DataFrame(paths)


def _tune(cell: Cell, iterations: int) -> tuple[dict[str, tuple[Choice, float]], list[dict[str, float]]]:
    """Returns each tuner's choice with its seconds, without compilation, and the path of the descent."""
    from . import optimizers as tuners
    from . import problem as tuning

    tuners.compile_for(cell)
    times = [time.perf_counter()]
    start = cell.calibrated(**tuning.START, t=cell.first_threshold()[0])
    times.append(time.perf_counter())
    gradient, path = tuners.descend(cell, iterations)
    times.append(time.perf_counter())
    grid = tuners.search(cell, gradient.solves)
    times.append(time.perf_counter())
    return dict(zip(TUNERS, zip((start, gradient, grid), np.diff(times).tolist(), strict=True), strict=True)), path


def _check(config: TuneConfig) -> None:
    check_axes(config, "penalty", "d", "sparsity", "truth_zeros")
    with mendable():
        for name in config.penalty:
            penalty = find(name)()
            try:
                penalty.threshold(1.0)
            except NotImplementedError:
                raise BadInput(f"penalty must have a threshold, got {name!r}") from None
    for name, least in (("d", 2), ("k", 1), ("seeds", 2), ("held_out", 2), ("iterations", 1)):
        if np.min(getattr(config, name)) < least:
            raise BadInput(f"{name} must be a whole number >= {least}, got {np.min(getattr(config, name))}")
    if config.seeds + config.held_out > 2**32:
        raise BadInput(f"held_out must leave seeds + held_out <= 2**32, got {config.held_out}")
    for value in config.sparsity:
        if not 0 < value < 1:
            raise BadInput(f"sparsity must be in (0, 1), got {value:g}")
    for value in config.truth_zeros:
        if not 0 <= value < min(config.sparsity):
            raise BadInput(f"truth_zeros must be >= 0 and below every sparsity, got {value:g}")
