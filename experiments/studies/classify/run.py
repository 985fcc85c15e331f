"""Runs of all cells."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from ...cli.interrupts import in_thread, mendable
from ...cli.runner import Report, check_axes, conduct
from ...records.environment import Clock
from ...records.folder import Facts, require_one_of
from .config import ClassifyConfig

if TYPE_CHECKING:
    import pandas as pd


def run(config: ClassifyConfig, console: Console, clock: Clock) -> Path:
    """Runs the study and returns the record's folder."""
    _check(config)

    def work(folder: Path) -> tuple[Facts, Report]:
        from . import report

        with clock.phase("run"):
            lanes = in_thread(lambda: limits(config))
        with clock.phase("report"):
            lanes.to_csv(folder / "lanes.csv.gz", index=False)
            cells = report.summarize(lanes)
            cells.to_csv(folder / "summary.csv", index=False)
        return {"lanes": len(lanes)}, report.sections(cells, config)

    return conduct("classify", "RVSM on logistic losses of the one-layer network", config, console, clock, work)


def limits(config: ClassifyConfig) -> pd.DataFrame:
    """Returns a row for each lane, in float64: its cell and its outcome."""
    import jax
    import jax.numpy as jnp
    import pandas as pd

    import rvsmjax as rv

    from ...penalties.registry import find
    from . import simulate

    frames = []
    with jax.enable_x64(True):
        numbers = rv.all_combinations(lam=np.asarray(config.lam), seed=np.arange(config.seeds))
        numbers["key"] = simulate.keys(jax.random.key(config.key), config.seeds)[numbers["seed"]]
        for name, value in (("beta", config.beta), ("tol", config.tol)):
            numbers[name] = jnp.full(len(numbers["lam"]), value)
        cells = itertools.product(config.penalty, config.labels, config.normalize, config.m)
        for name, labels, normalize, m in cells:
            network = simulate.Network(config.d, config.k, m, config.scale, labels)
            lanes = simulate.run(network, find(name)(config.a), numbers, normalize, config.max_steps)
            cell = {"penalty": name, "labels": labels, "normalize": normalize, "m": m}
            columns = {"lam": numbers["lam"], "seed": numbers["seed"], "steps": lanes.steps, **lanes.values}
            columns["converged"] = lanes.values["residual"] <= config.tol
            frames.append(pd.DataFrame(cell | {key: np.asarray(column) for key, column in columns.items()}))
    return pd.concat(frames, ignore_index=True)


def _check(config: ClassifyConfig) -> None:
    from rvsmjax import _checks

    from ...penalties.registry import find
    from .simulate import LABELS

    check_axes(config, "penalty", "labels", "normalize", "lam", "m")
    with mendable():
        for name in config.penalty:
            find(name)
        for name in ("d", "k", "m", "seeds", "max_steps"):
            _checks.integer(name, getattr(config, name), at_least=1)
        for name in ("lam", "beta", "a", "scale", "tol"):
            _checks.positive(name, getattr(config, name))
    for labels in config.labels:
        require_one_of("labels", labels, LABELS)
