"""Theorem 2 of arXiv 1812.05719: adaptive hard thresholding (Algorithm 2) finds w* and its support.

Claim: for s-sparse w* and w⁰ the iteration converges to w*, unless w⁰ on the support Γ* of w* is zero or at an angle of
π from w*. The learning rate is not stated; the lemma that the proof rests on has η < 1.

Command: ``python -m experiments aht``.

Expected at the defaults (182,000 lanes, 113,000 of which meet the condition): every lane that meets it ends at w* with
the exact support; so does every lane whose supports are apart, as the remark after the theorem says; at an angle of π
none does for k > 1. Three minutes on two cores.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from rich.console import Console

from experiments.cli.flags import Booleans, CommonFlags, Names, Number, Steps, Tolerance, WholeNumber, WholeNumbers
from experiments.cli.interrupts import in_thread, mendable
from experiments.cli.runner import check_axes, conduct
from experiments.records.environment import Clock
from experiments.records.folder import BadInput

if TYPE_CHECKING:
    import pandas as pd

MOST_REPLAYED = 1000
"""Lanes that break the theorem and are run again by the library's chain."""


@dataclasses.dataclass(frozen=True)
class AhtConfig(CommonFlags):
    """Run adaptive hard thresholding from random starts and hold Theorem 2 against where it ends.

    Flags in the plural take one value or more; the grid is every combination that exists.
    """

    d: WholeNumbers = (10, 20, 50)
    """Dimensions of w."""
    s: WholeNumbers = (1, 2, 5, 10)
    """Nonzero components of w* and w⁰."""
    k: WholeNumbers = (1, 2, 5, 20)
    """Numbers of patches."""
    start: Names = ("same", "half", "one", "ties", "near", "none", "opposite")
    """Starts: same, half, one (supports that share so much), ties (equal magnitudes), near (an angle just under π),
    none (supports apart), opposite (an angle of π)."""
    learning_rate: Number = 0.5
    """Learning rate η."""
    normalize: Booleans = (False,)
    """Whether w goes back to the sphere after each step; the theorem is about False."""
    seeds: WholeNumber = 700
    """Random problems in each cell."""
    tol: Tolerance = None
    """Distance from w* at which a lane has ended there; default 1e-10, in float32 1e-5."""
    max_steps: Steps = 10_000_000
    """Steps after which a lane is given up."""
    precision: Literal["float32", "float64"] = "float64"
    """Floating point numbers."""
    quick: bool = False
    """Small sizes (d 10, s 1 4, k 1 5, 20 seeds) where no flag says otherwise."""

    @classmethod
    def small(cls) -> AhtConfig:
        """Returns the defaults of ``--quick``."""
        return cls(d=(10,), s=(1, 4), k=(1, 5), seeds=20)

    def resolved(self) -> AhtConfig:
        """Returns the config with the tolerance filled in."""
        return dataclasses.replace(self, tol=self.tol or {"float32": 1e-5, "float64": 1e-10}[self.precision])


class Cell(NamedTuple):
    """What the seeds of a cell have in common."""

    d: int
    s: int
    k: int
    start: str
    normalize: bool


def run(config: AhtConfig, console: Console, clock: Clock) -> Path:
    """Runs the study and returns the folder of its record.

    Raises:
      BadInput: anything in ``config`` that the user can mend.
    """
    _check(config)
    config = config.resolved()

    def work(folder: Path) -> tuple[dict[str, Any], Any]:
        from experiments.reports import style
        from experiments.studies.aht import report as aht_report

        with clock.phase("run"):
            lanes = in_thread(lambda: run_lanes(config))
        with clock.phase("report"):
            cells = aht_report.summarize(lanes)
            cells.to_csv(folder / "summary.csv", index=False)
            lanes.to_csv(folder / "lanes.csv.gz", index=False)
            for name, figure in aht_report.figures(lanes).items():
                style.save(figure, folder, name)
        return {"lanes": len(lanes)}, aht_report.sections(lanes, cells, config)

    return conduct("aht", "Adaptive hard thresholding: Theorem 2", config, console, clock, work)


def cells(config: AhtConfig) -> Iterator[Cell]:
    """Yields the cells that exist, those of one d and of about equal length of run together."""
    from experiments.studies.aht.simulate import possible

    for normalize in config.normalize:
        for d in config.d:
            for start in config.start:
                for k in sorted(config.k):
                    yield from (Cell(d, s, k, start, normalize) for s in config.s if possible(start, s, d))


def run_lanes(config: AhtConfig) -> pd.DataFrame:
    """Returns a row for each lane: its cell and seed, whether it meets the theorem's condition, how it ended."""
    import jax
    import pandas as pd

    from experiments.records.lanes import map_tiles
    from experiments.studies.aht import simulate as aht_runs

    frames = []
    with jax.enable_x64(config.precision == "float64"):
        root, seeds = jax.random.key(config.key), np.arange(config.seeds)
        for d, normalize in dict.fromkeys((cell.d, cell.normalize) for cell in cells(config)):
            own = [cell for cell in cells(config) if (cell.d, cell.normalize) == (d, normalize)]
            lanes = aht_runs.draw(root, seeds, own, d, config.precision)
            numbers = {"learning_rate": config.learning_rate, "tol": config.tol, "max_steps": config.max_steps}
            program = functools.partial(aht_runs.run_tile, **numbers, normalize=normalize)
            outcome = map_tiles(program, lanes)
            meets = np.asarray(jax.jit(aht_runs.meets_condition)(lanes.w0, lanes.w_star))
            columns = {name: np.repeat([getattr(cell, name) for cell in own], len(seeds)) for name in Cell._fields}
            ended = {name: getattr(outcome, name) for name in ("end", "steps", "support_steps", "distance")}
            frame = pd.DataFrame({**columns, "seed": np.tile(seeds, len(own)), "meets": meets, **ended})
            frame["replayed"] = np.nan
            broken = np.flatnonzero(meets & (outcome.end != aht_runs.RECOVERED))[:MOST_REPLAYED]
            for i in broken:
                lane = aht_runs.Lanes(*(part[i] for part in lanes))
                again = aht_runs.replay(lane, config.learning_rate, outcome.steps[i], normalize)
                frame.loc[i, "replayed"] = float(np.linalg.norm(again - lane.w_star))
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _check(config: AhtConfig) -> None:
    """Raises ``BadInput`` for what no run can be made of."""
    from experiments.studies.aht.simulate import STARTS
    from rvsmjax import _checks

    with mendable():
        for name in ("d", "s", "k", "seeds", "max_steps"):
            _checks.integer(name, getattr(config, name), at_least=1)
        _checks.positive("learning_rate", config.learning_rate)
        if config.tol is not None:
            _checks.positive("tol", config.tol)
    check_axes(config, "d", "s", "k", "start", "normalize")
    unknown = [start for start in config.start if start not in STARTS]
    if unknown:
        raise BadInput(f"start must be one of {', '.join(STARTS)}, got {unknown[0]!r}")
    if not any(cells(config)):
        raise BadInput(f"s must leave room for both supports in d, got s = {list(config.s)}, d = {list(config.d)}")
