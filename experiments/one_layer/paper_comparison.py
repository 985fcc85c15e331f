"""Comparison of converged draws with the paper's printed values: which rows agree, which do not, and why."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from ..papers import arxiv_1812_05719 as paper
from ..reports.names import family

Angle = TypeVar("Angle", float, np.ndarray)


def at_paper_setting(sweep: xr.Dataset) -> xr.Dataset | None:
    """Returns the cells at the setting of the paper's tables, or None if the sweep has none of them.

    Penalties are labelled by family. Only the first learning rate is used: limits do not depend on it.

    Args:
      sweep: lanes or their summary.
    """
    where: dict[str, int | list[int]] = {"learning_rate": 0}
    for name in ("k", "lam", "beta", "normalize"):
        hits = np.flatnonzero(
            np.isclose(sweep[name].values.astype(float), float(paper.SETTING[name]), rtol=1e-6, atol=0)
        )
        if not len(hits):
            return None
        where[name] = int(hits[0])
    labels = [family(label) for label in sweep.penalty.values]
    known = [i for i in range(len(labels)) if in_paper(sweep.isel(penalty=i))]
    chosen = [i for name in paper.TABLES for i in known if labels[i] == name]
    sizes = [i for i, d in enumerate(sweep.d.values) if d in paper.DIMENSIONS]
    if not chosen or not sizes:
        return None
    cells = sweep.isel(where | {"penalty": chosen, "d": sizes})
    return cells.assign_coords(penalty=[labels[i] for i in chosen])


def in_paper(entry: xr.Dataset) -> bool:
    """Returns whether one entry of the penalty axis has a table in the paper."""
    return family(entry.penalty.item()) in paper.TABLES and bool(entry.a.isnull() or entry.a == paper.SETTING["a"])


def limit_rows(cells: xr.Dataset) -> pd.DataFrame:
    """Returns the position of each printed value of ``paper.LIMIT_ROWS`` within our draws.

    Args:
      cells: the summary at the paper's setting.

    Returns:
      penalty, metric, d, paper, mean, std, min, max, count; ``inside``: within [min, max]; ``deviations``: distance
      from the mean in standard deviations; ``within_two``: whether that is at most 2.
    """
    rows = []
    for penalty in cells.penalty.values:
        for metric in paper.LIMIT_ROWS:
            for d in cells.d.values:
                ours = cells[metric].sel(penalty=penalty, d=d)
                mean, std, low, high, count = (
                    float(ours.sel(statistic=s)) for s in ("mean", "std", "min", "max", "count")
                )
                printed = paper.value(penalty, metric, d)
                if not count:
                    continue
                distance = abs(printed - mean)
                rows.append(
                    {
                        "penalty": str(penalty),
                        "metric": metric,
                        "d": int(d),
                        "paper": printed,
                        "mean": mean,
                        "std": std,
                        "min": low,
                        "max": high,
                        "count": int(count),
                        "inside": low <= printed <= high,
                        "deviations": distance / std if std > 0 else (0.0 if distance == 0 else np.inf),
                        "within_two": distance <= 2 * std,
                    }
                )
    return pd.DataFrame(rows)


def with_printed_angle(cells: xr.Dataset) -> pd.DataFrame:
    """Returns the largest θ(ū,w*) of our draws and √(θ_u² + θ_w²) with the printed θ_w = θ(w̄,w*).

    Args:
      cells: the summary at the paper's setting.

    Returns:
      penalty, d; paper: the printed θ(ū,w*); largest: our θ_u; reach: √(θ_u² + θ_w²).
    """
    rows = []
    for penalty in cells.penalty.values:
        for d in cells.d.values:
            largest = float(cells.theta_u.sel(penalty=penalty, d=d, statistic="max"))
            printed, error = (paper.value(penalty, metric, d) for metric in ("theta_u", "theta_w"))
            rows.append((str(penalty), int(d), printed, largest, np.hypot(largest, error)))
    return pd.DataFrame(rows, columns=["penalty", "d", "paper", "largest", "reach"])


def impossible_rows(cells: xr.Dataset) -> pd.DataFrame:
    """Returns, for each printed θ(w̄,w*) and f(w̄), the bounds of the paper's theory on a limit.

    The paper prints no γ = ∠(w̄,ū), but by the triangle inequality |γ − θ(ū,w*)| <= θ(w̄,w*), and both angles are
    printed. So without our draws: bound (13) is ‖w̄ − w*‖ = 2 sin(θ/2) <= 4kβ sin γ, and the equilibrium relation (17),
    ((π − θ)/(kπ)) sin θ = β‖ū‖ sin γ, bounds its left side by β sin γ, since ‖ū‖ <= 1. Hard thresholding only removes
    components of a unit vector, so ‖ū‖ = cos γ and the right side is β sin γ cos γ <= β/2.

    Args:
      cells: the summary at the paper's setting.

    Returns:
      penalty, d; theta, distance, allowed_13, allowed_13_draws (with the largest γ of our draws), breaks_13 (both);
      pull, allowed_17, breaks_17; allowed_17_l0, breaks_17_l0 (NaN and False except for l0); theta_max: largest of our
      draws; f_from_theta: f(w̄) at the printed angle divided by the printed f(w̄).
    """
    rows = []
    k, beta = float(paper.SETTING["k"]), float(paper.SETTING["beta"])
    for penalty in cells.penalty.values:
        for d in cells.d.values:
            ours = cells.sel(penalty=penalty, d=d, statistic="max")
            theta, theta_u, loss = (paper.value(penalty, m, d) for m in ("theta_w", "theta_u", "f_w"))
            low, high = abs(theta_u - theta), min(theta_u + theta, np.pi / 2)
            distance = 2 * np.sin(theta / 2)
            allowed_13, allowed_13_draws = (4 * k * beta * np.sin(g) for g in (high, float(ours.gamma)))
            pull = (np.pi - theta) / (k * np.pi) * np.sin(theta)
            # sin γ cos γ is largest at π/4.
            sharp = beta * np.sin(2 * np.clip(np.pi / 4, low, high)) / 2 if penalty == "l0" else np.nan
            rows.append(
                {
                    "penalty": str(penalty),
                    "d": int(d),
                    "theta": theta,
                    "distance": distance,
                    "allowed_13": allowed_13,
                    "allowed_13_draws": allowed_13_draws,
                    "breaks_13": distance > max(allowed_13, allowed_13_draws),
                    "pull": pull,
                    "allowed_17": beta * np.sin(high),
                    "breaks_17": pull > beta * np.sin(high),
                    "allowed_17_l0": sharp,
                    "breaks_17_l0": bool(pull > sharp),
                    "theta_max": float(ours.theta_w),
                    "f_from_theta": loss_at_angle(theta) / loss,
                }
            )
    return pd.DataFrame(rows)


def loss_at_angle(theta: Angle) -> Angle:
    """Returns f(w̄) of a unit vector at angle θ from w*, at the paper's k (A eq. 8 with both norms 1)."""
    k = float(paper.SETTING["k"])
    return (1 - np.cos(theta) - (np.sin(theta) - theta * np.cos(theta)) / np.pi) / k


def orders(cells: xr.Dataset) -> pd.DataFrame:
    """Returns for each d the penalties in ascending order of f(w̄): means of our draws, and the printed values."""
    rows = []
    names = [str(name) for name in cells.penalty.values]
    for d in cells.d.values:
        means = {p: float(cells.f_w.sel(penalty=p, d=d, statistic="mean")) for p in names}
        printed = {p: paper.value(p, "f_w", d) for p in names}
        rows.append(
            {"d": int(d), "ours": sorted(names, key=means.__getitem__), "paper": sorted(names, key=printed.__getitem__)}
        )
    return pd.DataFrame(rows)
