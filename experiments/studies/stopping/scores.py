"""Likelihood of the printed θ(w̄,w*) under a stopping rule: one draw per d, shared by the penalties."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from ...one_layer.paper_comparison import loss_at_angle
from ...papers import arxiv_1812_05719 as paper
from .simulate import RULES, Setting, stops, watched

PENALTIES = tuple(paper.TABLES)
FLOOR = 0.03
"""Smallest standard deviation of a log angle; a smaller one would treat rounding and details as evidence."""

GRID = 301
"""Number of tolerances, equally spaced in logarithm."""

SIMULATED = 2000
"""Tables simulated from a rule, for the distribution of its score if the rule were true."""

Runs = Mapping[tuple[str, int], dict[str, np.ndarray]]
"""(penalty, d) -> trajectories."""
Stops = Mapping[tuple[str, int], np.ndarray]
"""(penalty, d) -> step at which each run stops at each tolerance."""


def scores(setting: Setting, runs: Runs, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns one row per rule and number of tolerances (one for all cells, or one per penalty), and its angles.

    Returns:
      First: distributions and η; rule; free: number of tolerances; tolerance of each penalty; log_likelihood of the 15
      printed angles; distance: squared Mahalanobis distance of their logarithms from the draws; p_far, p_near: shares
      of tables simulated from the rule at least as far, at most as far; angles: number of the 15 within the range of
      the draws; cells: the same of all 90 values; error: geometric mean of printed over median, as a factor. Second:
      quantiles of the angles at the stop for each row of the first, penalty and d.
    """
    rows, curves = [], []
    rng = np.random.default_rng(seed)
    for rule, name in RULES.items():
        angles, at, tolerances = _at_stops(runs, rule)
        tried = [[_likelihood(angles, [i] * len(PENALTIES)) for i in range(GRID)]]
        shared = [int(np.argmax(tried))] * len(PENALTIES)
        separate = [int(np.argmax([_marginal(angles, j, i) for i in range(GRID)])) for j in range(len(PENALTIES))]
        for free, chosen in ((1, shared), (len(PENALTIES), separate)):
            values = {f"tolerance_{p}": abs(tolerances[i]) for p, i in zip(PENALTIES, chosen, strict=True)}
            facts = setting._asdict() | {"rule": name, "free": free}
            rows.append(facts | values | _fit(runs, angles, at, chosen, rng))
            for (j, penalty), d in itertools.product(enumerate(PENALTIES), angles):
                low, middle, high = np.exp(np.quantile(angles[d][j, chosen[j]], [0.05, 0.5, 0.95]))
                curves.append(facts | {"penalty": penalty, "d": d, "low": low, "median": middle, "high": high})
    return pd.DataFrame(rows), pd.DataFrame(curves)


def _at_stops(runs: Runs, rule: str) -> tuple[dict[int, np.ndarray], Stops, np.ndarray]:
    """Returns log θ_w at the stop, d -> (penalties, tolerances, seeds); the stops; the tolerances."""
    values = {cell: watched(run, rule) for cell, run in runs.items()}
    positive = np.concatenate([np.abs(v[v != 0]) for v in values.values()])
    least, most = np.quantile(positive, [1e-3, 1 - 1e-3])
    tolerances = np.geomspace(least, most, GRID)
    if rule == "steps":
        tolerances = -np.round(tolerances)[::-1]
    at = {cell: stops(v, tolerances) for cell, v in values.items()}
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


def _likelihood(angles: dict[int, np.ndarray], chosen: list[int]) -> float:
    """Returns the log-likelihood of the printed angles, log-normal, given a tolerance per penalty."""
    total = 0.0
    for d, draws in angles.items():
        mean, cov = _gauss(draws[np.arange(len(PENALTIES)), chosen])
        gap = _printed(d) - mean
        total -= 0.5 * (gap @ np.linalg.solve(cov, gap) + np.linalg.slogdet(2 * np.pi * cov)[1])
    return total


def _marginal(angles: dict[int, np.ndarray], penalty: int, chosen: int) -> float:
    """Returns the log-likelihood of the printed angles of one penalty."""
    total = 0.0
    for d, draws in angles.items():
        x = draws[penalty, chosen]
        variance = x.var(ddof=1) + FLOOR**2
        total -= 0.5 * ((_printed(d)[penalty] - x.mean()) ** 2 / variance + np.log(2 * np.pi * variance))
    return total


def _fit(
    runs: Runs, angles: dict[int, np.ndarray], at: Stops, chosen: list[int], rng: np.random.Generator
) -> dict[str, float]:
    distance, simulated, inside, errors = 0.0, np.zeros(SIMULATED), 0, []
    for d, draws in angles.items():
        x = draws[np.arange(len(PENALTIES)), chosen]
        mean, cov = _gauss(x)
        inverse, gap = np.linalg.inv(cov), _printed(d) - mean
        distance += gap @ inverse @ gap
        samples = x[:, rng.integers(x.shape[1], size=SIMULATED)] - mean[:, None]
        simulated += np.einsum("is,ij,js->s", samples, inverse, samples)
        inside += int(((x.min(1) <= _printed(d)) & (_printed(d) <= x.max(1))).sum())
        errors += list(np.abs(_printed(d) - np.median(x, 1)))
    return {
        "log_likelihood": _likelihood(angles, chosen),
        "distance": distance,
        "p_far": float((simulated >= distance).mean()),
        "p_near": float((simulated <= distance).mean()),
        "angles": inside,
        "cells": _cells_inside(runs, at, chosen),
        "error": float(np.exp(np.mean(errors))),
    }


def _cells_inside(runs: Runs, at: Stops, chosen: list[int]) -> int:
    """Returns the number of printed values in all six rows within the range of the draws at the stop."""
    inside = 0
    for (penalty, d), run in runs.items():
        stop = at[penalty, d][:, [chosen[PENALTIES.index(penalty)]]]
        ended = {name: np.take_along_axis(run[name], stop, 1)[:, 0] for name in paper.TABLES[penalty][1] if name in run}
        ended["f_u_unit"] = loss_at_angle(ended["theta_u"])
        for name, x in ended.items():
            # The paper prints six digits.
            inside += bool(x.min() * (1 - 1e-5) <= paper.value(penalty, name, d) <= x.max() * (1 + 1e-5))
    return inside
