"""Limits of RVSM over d, and what thresholding w* itself would give, as one table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pandas as pd

import rvsmjax as rv
from rvsmjax.sweep import SweepResult

from .sphere import all_below, one_below

WEAK = 1e-6
"""Factor of λ and β in the reference: t depends on λ/β and stays, while w̄ = w* up to about 1e-6 kβ."""

FLOATS = ("theta_w", "theta_u", "steps")
"""Quantities whose mean and standard error the table has."""


def limits(
    grid: rv.Grid, key: int, tol: float, max_steps: int, progress: Callable[[int, int], None] | None = None
) -> tuple[SweepResult, SweepResult]:
    """Returns the sweep, and its reference: the same w* and w⁰ with a splitting too weak to move w̄ off w*."""
    options: dict[str, Any] = {"tol": tol, "max_steps": max_steps, "dtype": "float64", "progress": progress}
    (lam,), (beta,) = grid.values.lam, grid.values.beta
    weak = dataclasses.replace(grid, lam=WEAK * lam, beta=WEAK * beta)
    with jax.enable_x64(True):
        one, other = (rv.run_sweep(part, jax.random.key(key), **options) for part in (grid, weak))
    return one, other


def thresholds(grid: rv.Grid) -> list[float]:
    """Returns t of each entry of the penalty axis.

    Raises:
      NotImplementedError: a penalty has no fixed threshold.
    """
    (lam,), (beta,) = grid.values.lam, grid.values.beta
    with jax.enable_x64(True):
        return [float(penalty.threshold(lam / beta)) for penalty in grid.values.penalty]


def tabulate(grid: rv.Grid, result: SweepResult, reference: SweepResult, t: list[float]) -> pd.DataFrame:
    """Returns a row for each penalty and d.

    ``all_zero``: lanes with ū = 0; ``below``: lanes with max|w*ᵢ| ≤ t, from the reference; ``empty_above`` and
    ``full_below``: lanes that have one of the two and not the other; ``p_below``: exact probability of ``below``;
    ``p_certain``: the same for t(1 − kβ), under which ū = 0 is the only limit. Diverged lanes count in no mean.

    Args:
      grid: the grid, with one value on every axis but penalty, d and seed.
      result: its limits.
      reference: those of its reference.
      t: threshold of each penalty.
    """
    shape = len(t), len(grid.values.d), -1
    data = {name: values.reshape(shape) for name, values in result.data.items()}
    weak = {name: reference.data[name].reshape(shape) for name in ("zeros", "status")}
    (k,), (beta,) = grid.values.k, grid.values.beta
    rows = []
    for i, label in enumerate(grid.labels):
        for j, d in enumerate(grid.values.d):
            lanes = {name: values[i, j] for name, values in data.items()}
            used = lanes["status"] != rv.Status.DIVERGED
            n = len(used)
            empty = used & (lanes["zeros"] == d)
            below = (weak["status"][i, j] != rv.Status.DIVERGED) & (weak["zeros"][i, j] == d)
            share = float(empty.mean())
            row = {"penalty": label, "d": d, "threshold": t[i], "lanes": n}
            row |= {status.name.lower(): int((lanes["status"] == status).sum()) for status in rv.Status}
            row |= {"reference_not_converged": int((weak["status"][i, j] != rv.Status.CONVERGED).sum())}
            row |= {"all_zero": int(empty.sum()), "empty_share": share, "empty_sem": (share * (1 - share) / n) ** 0.5}
            row |= {"below": int(below.sum()), "p_below": all_below(d, t[i])}
            row |= {"p_certain": all_below(d, t[i] * max(1 - k * beta, 0))}
            row |= {"empty_above": int((empty & ~below).sum()), "full_below": int((~empty & below).sum())}
            row |= _mean("zeros_share", lanes["zeros"][used] / d) | {"p_one_below": one_below(d, t[i])}
            for name in FLOATS:
                row |= _mean(name, lanes[name][used])
            row |= _mean("theta_u_full", lanes["theta_u"][used & ~empty])
            row |= {"theta_w_empty_max": float(lanes["theta_w"][empty].max()) if empty.any() else np.nan}
            rows.append(row)
    return pd.DataFrame(rows)


def _mean(name: str, values: np.ndarray) -> dict[str, float]:
    """Returns the mean and its standard error; NaN where there are too few values."""
    n = len(values)
    error = float(np.std(values, ddof=1) / n**0.5) if n > 1 else np.nan
    return {name: float(np.mean(values)) if n else np.nan, f"{name}_sem": error}
