"""Scores of all stopping rules in all settings."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ...cli.interrupts import in_thread, mendable
from ...cli.runner import Report, check_axes, conduct
from ...records.environment import Clock
from ...records.folder import BadInput, Facts, require_one_of

if TYPE_CHECKING:
    import pandas as pd

    from .scores import Runs
    from .simulate import Setting
from .config import StoppingConfig


def run(config: StoppingConfig, console: Console, clock: Clock) -> Path:
    """Runs the study and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """
    _check(config)

    def work(folder: Path) -> tuple[Facts, Report]:
        from ...reports import vega
        from . import report as stopping_report

        with clock.phase("run"):
            table, curves = in_thread(lambda: _score(config))
        with clock.phase("report"):
            table.to_csv(folder / "scores.csv", index=False)
            curves.to_csv(folder / "curves.csv", index=False)
            vega.save({"rules": stopping_report.figure(table, curves)}, folder)
        return {"rules": len(table)}, stopping_report.sections(table, config)

    return conduct("stopping", "Stopping rules against the paper's θ(w̄,w*)", config, console, clock, work)


def _score(config: StoppingConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns scores of all rules in all settings, and quantiles of their angles."""
    import jax
    import pandas as pd

    from .scores import scores
    from .simulate import Setting

    tables, curves = [], []
    with jax.enable_x64(True):
        for setting in itertools.starmap(Setting, itertools.product(config.w_star, config.w0, config.learning_rate)):
            table, curve = scores(setting, _runs(setting, config), config.key)
            tables.append(table)
            curves.append(curve)
    return pd.concat(tables, ignore_index=True), pd.concat(curves, ignore_index=True)


def _runs(setting: Setting, config: StoppingConfig) -> Runs:
    import jax

    from ...papers import arxiv_1812_05719 as paper
    from .simulate import trajectories

    cells = itertools.product(paper.TABLES, paper.DIMENSIONS)
    key = jax.random.key(config.key)
    return {(name, d): trajectories(setting, name, d, config.seeds, key, config.time) for name, d in cells}


def _check(config: StoppingConfig) -> None:
    from rvsmjax import _checks

    from .simulate import LAWS

    with mendable():
        _checks.integer("seeds", config.seeds, at_least=4)
        _checks.positive("learning_rate", config.learning_rate)
        _checks.positive("time", config.time)
    check_axes(config, "w_star", "w0", "learning_rate")
    for name in ("w_star", "w0"):
        for law in getattr(config, name):
            require_one_of(name, law, LAWS)
    if config.time < 2 * max(config.learning_rate):
        raise BadInput(f"time must be at least 2 * max(learning_rate), got {config.time:g}")
