"""Runs of RVSM and ADMM on the same problems."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from ...cli.interrupts import in_thread, mendable
from ...cli.runner import Report, check_axes, conduct
from ...records.environment import Clock
from ...records.folder import BadInput, Facts

if TYPE_CHECKING:
    import pandas as pd

    from rvsmjax import Penalty
from .config import AdmmConfig


def run(config: AdmmConfig, console: Console, clock: Clock) -> Path:
    """Runs the study and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """
    _check(config)

    def work(folder: Path) -> tuple[Facts, Report]:
        from ...reports import vega
        from . import report as admm_report

        with clock.phase("run"):
            lanes = in_thread(lambda: run_lanes(config))
        with clock.phase("report"):
            cells = admm_report.summarize(lanes)
            cells.to_csv(folder / "summary.csv", index=False)
            lanes.to_csv(folder / "lanes.csv.gz", index=False)
            figures = admm_report.figures(cells)
            vega.save(figures, folder)
        return {"lanes": len(lanes)}, admm_report.sections(cells, list(figures), config)

    return conduct("admm", "RVSM beside ADMM on the one-layer network", config, console, clock, work)


def run_lanes(config: AdmmConfig) -> pd.DataFrame:
    """Returns one row per run: method, cell, seed, outcome."""
    import jax
    import pandas as pd

    from ...records.lanes import map_tiles
    from .simulate import METHODS, Lanes, run_tile

    frames = []
    with jax.enable_x64(config.precision == "float64"):
        penalties = _penalties(config)
        problems = list(itertools.product(config.nonzero, config.beta, config.lam, range(config.seeds)))
        nonzero, beta, lam, seed = (np.asarray(column) for column in zip(*problems, strict=True))
        w_star, w0 = (part[seed] for part in _draw(config))
        w_star = np.where(np.arange(config.d) < np.maximum(np.round(nonzero * config.d), 1)[:, None], w_star, 0)
        w_star /= np.linalg.norm(w_star, axis=1, keepdims=True)
        lanes = Lanes(w_star, w0, lam.astype(config.precision), beta.astype(config.precision))
        for name, normalize, method in itertools.product(config.penalty, config.normalize, METHODS):
            program = functools.partial(
                run_tile,
                method=method,
                penalty=penalties[name],
                normalize=normalize,
                k=config.k,
                tol=config.tol,
                max_steps=config.max_steps,
            )
            outcome = map_tiles(program, lanes)._asdict()
            del outcome["u"]
            cell = {"penalty": name, "normalize": normalize, "method": method, "nonzero": nonzero, "beta": beta}
            frames.append(pd.DataFrame({**cell, "lam": lam, "seed": seed, **outcome}))
    return pd.concat(frames, ignore_index=True)


def _draw(config: AdmmConfig) -> np.ndarray:
    """Returns dense w*, and w⁰, uniform on the sphere, of shape (2, seeds, d)."""
    import jax

    from ...records.lanes import drawn, lane_keys

    keys = lane_keys(jax.random.key(config.key), np.arange(config.seeds), config.d)
    normals = np.asarray(drawn(jax.random.normal, keys, (2, config.d), config.precision))
    return np.moveaxis(normals / np.linalg.norm(normals, axis=-1, keepdims=True), 1, 0)


def _penalties(config: AdmmConfig) -> dict[str, Penalty]:
    from rvsmjax.sweep import Grid

    from ...penalties.registry import for_grid

    penalties = for_grid(config.penalty, (config.a,))
    grid = Grid(penalty=penalties, d=config.d, k=config.k, lam=config.lam, beta=config.beta, a=config.a)
    return dict(zip(config.penalty, grid.values.penalty, strict=True))


def _check(config: AdmmConfig) -> None:
    from rvsmjax import _checks

    with mendable():
        _penalties(config)
        for name in ("seeds", "max_steps"):
            _checks.integer(name, getattr(config, name), at_least=1)
        for name in ("lam", "tol"):
            _checks.positive(name, getattr(config, name))
    check_axes(config, "nonzero", "normalize")
    if not all(0 < share <= 1 for share in config.nonzero):
        raise BadInput(f"nonzero must lie in (0, 1], got {list(config.nonzero)}")
