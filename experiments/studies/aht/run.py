"""Runs of adaptive hard thresholding."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from ...cli.interrupts import in_thread, mendable
from ...cli.runner import Report, check_axes, conduct
from ...records.environment import Clock
from ...records.folder import BadInput, Facts, require_one_of

if TYPE_CHECKING:
    import pandas as pd
from .config import AhtConfig, Cell, cells

MOST_REPLAYED = 1000
"""Maximum number of counterexamples replayed with the library's chain."""


def run(config: AhtConfig, console: Console, clock: Clock) -> Path:
    """Runs the study and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """
    _check(config)
    config = config.resolved()

    def work(folder: Path) -> tuple[Facts, Report]:
        from ...reports import vega
        from . import report as aht_report

        with clock.phase("run"):
            lanes = in_thread(lambda: run_lanes(config))
        with clock.phase("report"):
            cells = aht_report.summarize(lanes)
            cells.to_csv(folder / "summary.csv", index=False)
            lanes.to_csv(folder / "lanes.csv.gz", index=False)
            vega.save(aht_report.figures(lanes), folder)
        return {"lanes": len(lanes)}, aht_report.sections(lanes, cells, config)

    return conduct("aht", "Adaptive hard thresholding: Theorem 2", config, console, clock, work)


def run_lanes(config: AhtConfig) -> pd.DataFrame:
    """Returns one row per lane: cell, seed, whether it meets the theorem's condition, outcome."""
    import jax
    import pandas as pd

    from ...records.lanes import map_tiles
    from . import simulate as aht_runs

    frames = []
    with jax.enable_x64(config.precision == "float64"):
        root, seeds = jax.random.key(config.key), np.arange(config.seeds)
        for d, normalize in dict.fromkeys((cell.d, cell.normalize) for cell in cells(config)):
            group = [cell for cell in cells(config) if (cell.d, cell.normalize) == (d, normalize)]
            lanes = aht_runs.draw(root, seeds, group, d, config.precision)
            program = functools.partial(
                aht_runs.run_tile,
                learning_rate=config.learning_rate,
                tol=config.tolerance(),
                max_steps=config.max_steps,
                normalize=normalize,
            )
            outcome = map_tiles(program, lanes)
            meets = np.asarray(jax.jit(aht_runs.meets_condition)(lanes.w0, lanes.w_star))
            columns = {name: np.repeat([getattr(cell, name) for cell in group], len(seeds)) for name in Cell._fields}
            results = {name: getattr(outcome, name) for name in ("end", "steps", "support_steps", "distance")}
            frame = pd.DataFrame({**columns, "seed": np.tile(seeds, len(group)), "meets": meets, **results})
            frame["replayed"] = np.nan
            broken = np.flatnonzero(meets & (outcome.end != aht_runs.RECOVERED))[:MOST_REPLAYED]
            for i in broken:
                lane = aht_runs.Lanes(*(part[i] for part in lanes))
                again = aht_runs.replay(lane, config.learning_rate, outcome.steps[i], normalize)
                frame.loc[i, "replayed"] = float(np.linalg.norm(again - lane.w_star))
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _check(config: AhtConfig) -> None:
    from rvsmjax import _checks

    from .simulate import STARTS

    with mendable():
        for name in ("d", "s", "k", "seeds", "max_steps"):
            _checks.integer(name, getattr(config, name), at_least=1)
        _checks.positive("learning_rate", config.learning_rate)
        if config.tol is not None:
            _checks.positive("tol", config.tol)
    check_axes(config, "d", "s", "k", "start", "normalize")
    for start in config.start:
        require_one_of("start", start, STARTS)
    if not any(cells(config)):
        raise BadInput(f"s must leave room for both supports in d, got s = {list(config.s)}, d = {list(config.d)}")
