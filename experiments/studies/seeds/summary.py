"""Means over seeds with confidence intervals, and the choice among settings."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

SETTING = ["penalty", "setting", "lam", "beta", "sparsity", "learning_rate"]
METRICS = ["accuracy_w", "accuracy_u", "zeros", "test_w", "test_u"]


def interval(values: ArrayLike) -> tuple[float, float]:
    """Returns the mean and half of Student's 95 % interval for it; two values or more."""
    values = np.asarray(values, float)
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * error)


def summarize(lanes: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each setting: the mean of each metric and, as ``..._half``, half its interval over seeds."""
    rows = []
    for place, part in lanes.groupby(SETTING, sort=False, dropna=False):
        row = dict(zip(SETTING, place, strict=True)) | {"seeds": len(part), "diverged": int((~part.finite).sum())}
        for metric in METRICS:
            row[metric], row[f"{metric}_half"] = interval(part[metric])
        rows.append(row | {"chosen": bool(part.get("chosen", pd.Series(False)).any())})
    return pd.DataFrame(rows)


def choose(summary: pd.DataFrame, min_sparsity: float) -> int | None:
    """Returns the number of the setting whose u is best on validation images; None if none can be chosen.

    It must have the share of zeros asked for, to a tenth of a percent (shares of whole weights are seldom round),
    unless there is no penalty; and no seed that diverged.
    """
    enough = (summary.zeros.round(3) >= min_sparsity) | (summary.penalty == "none")
    fit = summary[enough & (summary.diverged == 0)]
    return int(fit.setting.iloc[fit.accuracy_u.argmax()]) if len(fit) else None
