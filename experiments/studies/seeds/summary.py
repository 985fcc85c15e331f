"""Means over seeds with confidence intervals, and the choice of a setting."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

SETTING = ["penalty", "setting", "lam", "beta", "sparsity", "learning_rate"]
METRICS = ["accuracy_w", "accuracy_u", "zeros", "test_w", "test_u"]


def interval(values: ArrayLike) -> tuple[float, float]:
    """Returns the mean and half the width of Student's 95 % interval of two or more values."""
    values = np.asarray(values, float)
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * error)


def summarize(lanes: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per setting: the mean of each metric over seeds and, as ``..._half``, half its interval."""
    rows = []
    for setting, part in lanes.groupby(SETTING, sort=False, dropna=False):
        row = dict(zip(SETTING, setting, strict=True)) | {"seeds": len(part), "diverged": int((~part.finite).sum())}
        for metric in METRICS:
            row[metric], row[f"{metric}_half"] = interval(part[metric])
        rows.append(row | {"chosen": bool(part.get("chosen", pd.Series(False)).any())})
    return pd.DataFrame(rows)


def choose(summary: pd.DataFrame, min_sparsity: float) -> int | None:
    """Returns the setting whose u is best on validation images, or None.

    Only settings without diverged seeds qualify and, unless the penalty is ``none``, with the required share of zeros,
    rounded to a tenth of a percent because a share of whole weights is rarely round.
    """
    enough = (summary.zeros.round(3) >= min_sparsity) | (summary.penalty == "none")
    fit = summary[enough & (summary.diverged == 0)]
    return int(fit.setting.iloc[fit.accuracy_u.argmax()]) if len(fit) else None
