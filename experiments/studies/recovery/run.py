"""The sweep over sparse w*, and its statistics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ...cli.interrupts import in_thread, mendable
from ...cli.runner import Report, check_axes, conduct
from ...records.environment import Clock
from ...records.folder import BadInput, Facts, require_one_of

if TYPE_CHECKING:
    import pandas as pd

    from rvsmjax.penalties import Penalty
from .config import RecoveryConfig, nonzeros

AXES = ("penalty", "activation", "d", "share", "k", "ratio")


def run(config: RecoveryConfig, console: Console, clock: Clock) -> Path:
    """Runs the study and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """
    _check(config)

    def work(folder: Path) -> tuple[Facts, Report]:
        from ...reports import vega
        from . import report as recovery_report

        with clock.phase("run"), mendable():
            lanes = in_thread(lambda: run_lanes(config))
        with clock.phase("report"):
            cells = recovery_report.summarize(lanes)
            lanes.to_csv(folder / "lanes.csv.gz", index=False)
            cells.to_csv(folder / "cells.csv", index=False)
            vega.save(recovery_report.figures(cells), folder)
        return {"lanes": len(lanes)}, recovery_report.sections(lanes, cells, penalties(config), config)

    return conduct("recovery", "Recovery of the support of a sparse w*", config, console, clock, work)


def penalties(config: RecoveryConfig) -> dict[str, Penalty]:
    """Returns the penalties by their names on the command line."""
    from ...penalties.registry import find

    return {name: find(name)(config.a) for name in config.penalty}


def run_lanes(config: RecoveryConfig) -> pd.DataFrame:
    """Returns one row per lane: its values on the axes, s, seed, measures, steps and status."""
    import jax
    import numpy as np
    import pandas as pd

    import rvsmjax as rv

    from .problem import PROBLEM, algorithm

    axes = {name: getattr(config, name) for name in AXES}
    with jax.enable_x64(True):
        grid = rv.Grid(
            problem=PROBLEM,
            axes=axes | {"penalty": list(penalties(config).values()), "beta": config.beta},
            static=["activation", "d"],
            seeds=config.seeds,
        )
        result = rv.run_sweep(
            grid, jax.random.key(config.key), tol=config.tol, max_steps=config.max_steps, algorithm=algorithm
        )
    index = dict(zip(grid.shape, np.indices(tuple(grid.shape.values())), strict=True))
    columns = {name: np.asarray(values)[index[name].ravel()] for name, values in axes.items()}
    columns["s"] = [nonzeros(share, d) for share, d in zip(columns["share"], columns["d"], strict=True)]
    measured = {name: values.ravel() for name, values in result.data.items()}
    return pd.DataFrame(columns | {"seed": index["seed"].ravel()} | measured)


def _check(config: RecoveryConfig) -> None:
    from rvsmjax import _checks
    from rvsmjax.sweep.grid import PROBLEMS

    with mendable():
        for name in ("d", "k", "seeds", "max_steps"):
            _checks.integer(name, getattr(config, name), at_least=1)
        for name in ("share", "ratio", "beta", "a", "tol"):
            _checks.positive(name, getattr(config, name))
    check_axes(config, *AXES)
    for name in config.activation:
        require_one_of("activation", name, PROBLEMS)
    with mendable():
        penalties(config)
    if not all(1 <= nonzeros(share, d) <= d for share in config.share for d in config.d):
        raise BadInput(f"share must give 1 <= s <= d, got share = {list(config.share)}, d = {list(config.d)}")
