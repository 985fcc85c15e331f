"""λ, β and a tuned for a required sparsity, by gradient through the limit and by grid search: is Tl1 better than both?

Command: ``python -m experiments tune``.

Expected at the defaults (12 settings, three penalties each, 2,000 held-out seeds): no. At equal sparsity tuned Tl1 is
nearer to w* than l1 by 0.08 to 0.14 rad in every setting, and at best as near as l0: over the least angle possible with
as many nonzero components it has 0 to 0.001 rad more, never less. It is tuned towards l0, a to its lower bound or near
it; l0 has nothing to tune but λ: its ū is w* on its support. Gradient and grid agree to 0.002 rad for l0 and Tl1, to
0.005 for l1, of which the grid finds a slightly better β far from the start. Six minutes of one core, compilation
included.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from rich.console import Console

from experiments.cli.flags import CommonFlags, Names, Numbers, WholeNumber, WholeNumbers
from experiments.cli.interrupts import in_thread
from experiments.cli.runner import check_axes, conduct
from experiments.records.environment import Clock
from experiments.records.folder import BadInput

if TYPE_CHECKING:
    import xarray as xr

    from experiments.studies.tune.problem import Cell, Choice

PENALTIES = ("l1", "l0", "tl1")
TUNERS = ("start", "gradient", "grid")
"""The paper's β and a with the λ of the required sparsity; that and Adam from there; a grid over β and a."""


@dataclasses.dataclass(frozen=True)
class TuneConfig(CommonFlags):
    """Tune λ, β and a for a required share of zeros, per penalty and d, and measure the angle on seeds not seen.

    Flags in the plural take one value or more; every combination is tuned by itself.
    """

    penalty: Names = PENALTIES
    """Penalties: l1, l0, tl1."""
    d: WholeNumbers = (10, 20, 50)
    """Dimensions of w."""
    sparsity: Numbers = (0.5, 0.8)
    """Required shares of zeros in u."""
    truth_zeros: Numbers = (0.0, 0.4)
    """Shares of zeros in w*, below every required one; 0: uniform on the sphere."""
    k: WholeNumber = 2
    """Number of patches."""
    seeds: WholeNumber = 200
    """Random problems to tune on."""
    held_out: WholeNumber = 2000
    """Random problems to measure on."""
    iterations: WholeNumber = 84
    """Steps of Adam; the grid gets as many solves."""
    precision: Literal["float32", "float64"] = "float32"
    """Floating point numbers."""
    quick: bool = False
    """Small sizes (d 5, one sparsity, 40 seeds, 100 held out, 18 iterations) where no flag says otherwise."""

    @classmethod
    def small(cls) -> TuneConfig:
        """Returns the defaults of ``--quick``."""
        return cls(d=(5,), sparsity=(0.5,), truth_zeros=(0.0,), seeds=40, held_out=100, iterations=18)


def run(config: TuneConfig, console: Console, clock: Clock) -> Path:
    """Tunes every cell and returns the folder of the record.

    Raises:
      BadInput: anything in ``config`` that the user can mend.
    """
    _check(config)

    def work(folder: Path) -> tuple[dict[str, Any], Any]:
        with clock.phase("set-up"):
            from experiments.records.zarr_store import write_zarr
            from experiments.reports import style
            from experiments.studies.tune import figures as tune_plots
            from experiments.studies.tune import report as tune_report
            from experiments.studies.tune import summary as tune_summary
        with clock.phase("run"):
            results, paths = in_thread(lambda: tune_all(config))
        with clock.phase("report"):
            table = tune_summary.summarize(results)
            table.to_csv(folder / "summary.csv", index=False)
            paths.to_csv(folder / "paths.csv", index=False)
            write_zarr(results, folder / "data.zarr")
            figures = tune_plots.tune_figures(results, paths)
            for name, figure in figures.items():
                style.save(figure, folder, name)
        return {}, tune_report.sections(results, table, list(figures))

    return conduct("tune", "Tuned at a required sparsity", config, console, clock, work)


def tune_all(config: TuneConfig) -> tuple[xr.Dataset, pd.DataFrame]:
    """Returns what each tuner chose in each cell with its held-out angles, and the paths of the descents."""
    import jax
    import xarray as xr

    from experiments.studies.tune import problem as tuning

    key = jax.random.key(config.key)
    cells, paths = [], []
    for d, zeros in itertools.product(config.d, config.truth_zeros):
        # Held-out seeds come after the others: nothing is chosen by them.
        seen = tuning.draw(key, range(config.seeds), d, zeros)
        unseen = tuning.draw(key, range(config.seeds, config.seeds + config.held_out), d, zeros)
        for kind, sparsity in itertools.product(config.penalty, config.sparsity):
            cell = tuning.Cell(kind, config.k, sparsity, seen)
            place = {"penalty": kind, "d": d, "truth_zeros": zeros, "sparsity": sparsity}
            choices, path = _tune(cell, config.iterations)
            paths += [place | {"iteration": i} | row for i, row in enumerate(path)]
            for tuner, (choice, seconds) in choices.items():
                scalars = choice._asdict() | {"lam": choice.lam(kind), "seconds": seconds}
                scalars |= {f"train_{name}": scalars.pop(name) for name in ("theta", "share")}
                measured = tuning.measure(cell, choice, unseen)
                data = {name: ("seed", values) for name, values in measured.items()}
                one = xr.Dataset(data | scalars, place | {"tuner": tuner})
                cells.append(one.expand_dims([*place, "tuner"]))
    combined = xr.combine_by_coords(cells, combine_attrs="drop")
    order = {"penalty": list(config.penalty), "tuner": list(TUNERS)}
    return combined.sel(order), pd.DataFrame(paths)


def _tune(cell: Cell, iterations: int) -> tuple[dict[str, tuple[Choice, float]], list[dict[str, float]]]:
    """Returns the choice of each tuner with its seconds, compilation apart, and the path of the descent."""
    from experiments.studies.tune import optimizers as tuners
    from experiments.studies.tune import problem as tuning

    tuners.compile_for(cell)
    began = time.perf_counter()
    start = cell.calibrated(**tuning.START, t=cell.first_threshold()[0])
    started = time.perf_counter()
    found, path = tuners.descend(cell, iterations)
    descended = time.perf_counter()
    best = tuners.search(cell, found.solves)
    ends = {"start": (start, started - began), "gradient": (found, descended - started)}
    return ends | {"grid": (best, time.perf_counter() - descended)}, path


def _check(config: TuneConfig) -> None:
    """Raises ``BadInput`` for what no run can be made of."""
    check_axes(config, "penalty", "d", "sparsity", "truth_zeros")
    for name in config.penalty:
        if name not in PENALTIES:
            raise BadInput(f"penalty must be one of {', '.join(PENALTIES)}, got {name!r}")
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
