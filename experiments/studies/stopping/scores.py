"""How well a stopping rule explains the printed θ(w̄,w*): one draw for each d, all penalties on the same problem."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from ...papers import arxiv_1812_05719 as paper
from ..one_layer.paper_comparison import loss_at_angle
from .simulate import RULES, Setting, stops, watched

PENALTIES = tuple(paper.TABLES)
FLOOR = 0.03
"""Least standard deviation of a logarithm: a narrower spread would count rounding and details as evidence."""

GRID = 301
"""Tolerances tried, even in logarithm."""

SIMULATED = 2000
"""Tables drawn from a rule, to see what its score would be if it were the right one."""

Runs = Mapping[tuple[str, int], dict[str, np.ndarray]]
"""(penalty, d) -> trajectories."""
Stops = Mapping[tuple[str, int], np.ndarray]
"""(penalty, d) -> where its runs stop at each tolerance."""


def scores(setting: Setting, runs: Runs, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns a row for each rule with one tolerance for all cells and with one for each penalty; and its angles.

    Returns:
      First: laws and η; rule; free: number of tolerances; tolerance: of each penalty; log_likelihood of the 15 printed
      angles; distance: squared Mahalanobis distance of their logarithms from the draws; p_far, p_near: share of tables
      drawn from the rule itself that lie as far, as near; angles: how many of the 15 lie inside the range of draws;
      cells: how many of all 90 do; error: geometric mean of printed over median, as a factor. Second: the
      quantiles of the angles at the stop, for each row of the first, penalty and d.
    """
    rows, curves = [], []
    rng = np.random.default_rng(seed)
    for rule, name in RULES.items():
        angles, at, tolerances = _at_stops(runs, rule)
        tried = [[_likelihood(angles, [i] * len(PENALTIES)) for i in range(GRID)]]
        shared = [int(np.argmax(tried))] * len(PENALTIES)
        own = [int(np.argmax([_marginal(angles, j, i) for i in range(GRID)])) for j in range(len(PENALTIES))]
        for free, places in ((1, shared), (len(PENALTIES), own)):
            chosen = {f"tolerance_{p}": abs(tolerances[i]) for p, i in zip(PENALTIES, places, strict=True)}
            facts = setting._asdict() | {"rule": name, "free": free}
            rows.append(facts | chosen | _fit(runs, angles, at, places, rng))
            for (j, penalty), d in itertools.product(enumerate(PENALTIES), angles):
                low, middle, high = np.exp(np.quantile(angles[d][j, places[j]], [0.05, 0.5, 0.95]))
                curves.append(facts | {"penalty": penalty, "d": d, "low": low, "median": middle, "high": high})
    return pd.DataFrame(rows), pd.DataFrame(curves)


def _at_stops(runs: Runs, rule: str) -> tuple[dict[int, np.ndarray], Stops, np.ndarray]:
    """Returns log θ_w at the stop, d -> (penalties, tolerances, seeds); the stops; the tolerances."""
    seen = {cell: watched(run, rule) for cell, run in runs.items()}
    positive = np.concatenate([np.abs(values[values != 0]) for values in seen.values()])
    least, most = np.quantile(positive, [1e-3, 1 - 1e-3])
    tolerances = np.geomspace(least, most, GRID)
    if rule == "steps":
        tolerances = -np.round(tolerances)[::-1]
    at = {cell: stops(values, tolerances) for cell, values in seen.items()}
    dimensions = list(dict.fromkeys(d for _, d in runs))
    angles = {}
    for d in dimensions:
        theta = [np.take_along_axis(runs[p, d]["theta_w"], at[p, d], 1).T for p in PENALTIES]
        angles[d] = np.log(np.maximum(theta, 1e-12))
    return angles, at, tolerances


def _printed(d: int) -> np.ndarray:
    return np.log([paper.value(penalty, "theta_w", d) for penalty in PENALTIES])


def _gauss(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and covariance of draws (penalties, seeds)."""
    return draws.mean(1), np.cov(draws) + FLOOR**2 * np.eye(len(draws))


def _likelihood(angles: dict[int, np.ndarray], places: list[int]) -> float:
    """Returns the log-likelihood of the printed angles, Gaussian in their logarithms, given a tolerance a penalty."""
    total = 0.0
    for d, draws in angles.items():
        mean, cov = _gauss(draws[np.arange(len(PENALTIES)), places])
        apart = _printed(d) - mean
        total -= 0.5 * (apart @ np.linalg.solve(cov, apart) + np.linalg.slogdet(2 * np.pi * cov)[1])
    return total


def _marginal(angles: dict[int, np.ndarray], penalty: int, place: int) -> float:
    """Returns the log-likelihood of the printed angles of one penalty."""
    total = 0.0
    for d, draws in angles.items():
        x = draws[penalty, place]
        variance = x.var(ddof=1) + FLOOR**2
        total -= 0.5 * ((_printed(d)[penalty] - x.mean()) ** 2 / variance + np.log(2 * np.pi * variance))
    return total


def _fit(
    runs: Runs, angles: dict[int, np.ndarray], at: Stops, places: list[int], rng: np.random.Generator
) -> dict[str, float]:
    distance, simulated, inside, errors = 0.0, np.zeros(SIMULATED), 0, []
    for d, draws in angles.items():
        x = draws[np.arange(len(PENALTIES)), places]
        mean, cov = _gauss(x)
        inverse, apart = np.linalg.inv(cov), _printed(d) - mean
        distance += apart @ inverse @ apart
        others = x[:, rng.integers(x.shape[1], size=SIMULATED)] - mean[:, None]
        simulated += np.einsum("is,ij,js->s", others, inverse, others)
        inside += int(((x.min(1) <= _printed(d)) & (_printed(d) <= x.max(1))).sum())
        errors += list(np.abs(_printed(d) - np.median(x, 1)))
    return {
        "log_likelihood": _likelihood(angles, places),
        "distance": distance,
        "p_far": float((simulated >= distance).mean()),
        "p_near": float((simulated <= distance).mean()),
        "angles": inside,
        "cells": _cells_inside(runs, at, places),
        "error": float(np.exp(np.mean(errors))),
    }


def _cells_inside(runs: Runs, at: Stops, places: list[int]) -> int:
    """Returns how many printed values, of all six rows, lie inside the range of the draws at the stop."""
    inside = 0
    for (penalty, d), run in runs.items():
        stop = at[penalty, d][:, [places[PENALTIES.index(penalty)]]]
        ended = {name: np.take_along_axis(run[name], stop, 1)[:, 0] for name in paper.TABLES[penalty][1] if name in run}
        ended["f_u_unit"] = loss_at_angle(ended["theta_u"])
        for name, x in ended.items():
            # Printed to six digits.
            inside += bool(x.min() * (1 - 1e-5) <= paper.value(penalty, name, d) <= x.max() * (1 + 1e-5))
    return inside
