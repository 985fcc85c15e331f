"""Runs of the limits on samples and of those that they are compared with."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from ...cli.interrupts import in_thread, mendable
from ...cli.runner import Report, check_axes, conduct
from ...records.environment import Clock
from ...records.folder import BadInput, Facts, require_one_of
from .config import SamplesConfig

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-9
"""Residual at which a lane without noise has converged."""

KEPT_PROGRAMS = 4
"""Sizes after which compiled programs are dropped: no other size uses them, and a process can hold a few hundred."""


def run(config: SamplesConfig, console: Console, clock: Clock) -> Path:
    """Runs the study and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """
    _check(config)

    def work(folder: Path) -> tuple[Facts, Report]:
        from ...reports import vega
        from . import report, summary

        with clock.phase("run"):
            lanes = in_thread(lambda: limits(config))
        with clock.phase("report"):
            lanes.to_csv(folder / "lanes.csv.gz", index=False)
            cells = summary.summarize(lanes)
            cells.to_csv(folder / "summary.csv", index=False)
            fits = summary.exponents(cells)
            fits.to_csv(folder / "fits.csv", index=False)
            figures = report.figures(cells, config)
            vega.save(figures, folder)
        return {"lanes": len(lanes)}, report.sections(cells, fits, list(figures), config)

    return conduct("samples", "RVSM on the empirical risk of the one-layer network", config, console, clock, work)


def limits(config: SamplesConfig) -> pd.DataFrame:
    """Returns a row for each lane: its cell, the angles of its limit, and the angle to the limit of the reference."""
    import jax

    with jax.enable_x64(True):
        return _limits(config)


def _limits(config: SamplesConfig) -> pd.DataFrame:
    import jax
    import pandas as pd

    frames = []
    for law, stride in itertools.product(config.law, config.stride):
        whole = 0 if config.closed_form(law, stride) else config.reference
        reference = _ends(config, law, stride, whole, 0, (0.0,))
        for m, batch in itertools.product(config.sizes(law, stride), config.batch):
            ends = _all_ends(config, law, stride, m, batch)
            count = min(ends["w"].shape[-2], reference["w"].shape[-2])  # seeds that both have
            w, u, w_star = (ends[name][..., :count, :] for name in ("w", "u", "w_star"))
            w_ref = reference["w"][..., :count, :]
            columns = {
                "theta_w": _angle(w, w_star),
                "theta_u": _angle(u, w_star),
                "apart": _angle(w, w_ref),
                "excess": _angle(w, w_star) - _angle(w_ref, reference["w_star"][..., :count, :]),
                "zeros": np.sum(u == 0, -1),
                "steps": ends["steps"][..., :count],
                "ended": ends["ended"][..., :count] & reference["ended"][..., :count],
            }
            index = pd.MultiIndex.from_product(
                [config.penalty, config.noise, range(count)], names=["penalty", "noise", "seed"]
            )
            frame = pd.DataFrame({name: values.ravel() for name, values in columns.items()}, index).reset_index()
            frames.append(frame.assign(law=law, stride=stride or config.d, m=m, batch=batch))
            if len(frames) % KEPT_PROGRAMS == 0:
                jax.clear_caches()
    return pd.concat(frames, ignore_index=True)


def _all_ends(config: SamplesConfig, law: str, stride: int, m: int, batch: int) -> dict[str, Any]:
    """Returns ``_ends`` for every noise: those without and those with it are programs of their own."""
    groups = [tuple(x for x in config.noise if bool(x) is noisy) for noisy in (False, True)]
    parts = [_ends(config, law, stride, m, batch, group) for group in groups if group]
    order = np.argsort([config.noise.index(x) for group in groups for x in group])
    return {name: np.concatenate([part[name] for part in parts], 1)[:, order] for name in parts[0]}


def _ends(config: SamplesConfig, law: str, stride: int, m: int, batch: int, noise: tuple[float, ...]) -> dict[str, Any]:
    """Returns w, u, w*, steps and whether each lane has ended, with axes penalty, noise, seed (and component)."""
    import jax

    import rvsmjax as rv

    from ...penalties.registry import find
    from .problem import SampledRisk, after, by_descent

    problem = SampledRisk(config.d, config.k, law, m, batch, stride, noisy=any(noise))
    penalties = [find(name)(config.a) for name in config.penalty]
    axes = {"penalty": penalties, "lam": config.lam, "beta": config.beta, "noise": noise}
    with mendable():
        grid = rv.Grid(problem=problem, axes=axes, seeds=config.seeds_at(m) if m else config.seeds)
        result = rv.run_sweep(
            grid,
            jax.random.key(config.key),
            tol=TOLERANCE,
            max_steps=problem.steps or config.max_steps,
            algorithm=by_descent,
            done=after(problem.steps) if problem.steps else None,
        )
    data = {name: values[:, 0, 0] for name, values in result.data.items()}  # λ and β have one value
    return data | {"ended": data["status"] == rv.Status.CONVERGED}


def _angle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Returns the angle between vectors along the last axis, π/2 where one is zero."""
    from rvsmjax.geometry import angle

    return np.asarray(angle(u, v))


def _check(config: SamplesConfig) -> None:
    from rvsmjax import _checks

    from ...penalties.registry import find
    from .problem import LAWS

    check_axes(config, "penalty", "law", "m", "noise", "batch", "stride")
    with mendable():
        for name in config.penalty:
            find(name)
        for name in ("m", "d", "k", "seeds", "reference", "max_steps"):
            _checks.integer(name, getattr(config, name), at_least=1)
        for name in ("batch", "stride"):
            _checks.integer(name, getattr(config, name), at_least=0)
        _checks.nonnegative("noise", config.noise)
        for name in ("lam", "beta", "a"):
            _checks.positive(name, getattr(config, name))
    for law in config.law:
        require_one_of("law", law, LAWS)
    for law, stride in itertools.product(config.law, config.stride):
        if not config.sizes(law, stride):
            raise BadInput(f"reference must be at least 10 times the smallest m, got {config.reference:,}")
