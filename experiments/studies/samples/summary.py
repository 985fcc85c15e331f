"""Means over seeds, and the power of the sample size at which limits approach the reference."""

from __future__ import annotations

import numpy as np
import pandas as pd

CELL = ["penalty", "law", "stride", "batch", "noise"]
FITTED = {"excess": "θ(w̄,w*) over the reference", "apart": "angle between the limits"}
SIGNIFICANT = 2.0
"""Means below so many standard errors are left out of a fit: their logarithms say nothing."""


def summarize(lanes: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each cell and sample size: seeds, means with standard errors, root mean square of ``apart``."""
    rows = []
    for values, part in lanes.groupby([*CELL, "m"], sort=False):
        row = dict(zip([*CELL, "m"], values, strict=True)) | {"seeds": len(part), "open": int((~part.ended).sum())}
        for name in ("theta_w", "theta_u", "excess", "zeros", "steps"):
            row |= {name: part[name].mean(), f"{name}_se": _error(part[name].to_numpy(float))}
        squares = part.apart.to_numpy(float) ** 2
        root = np.sqrt(squares.mean())
        rows.append(row | {"apart": root, "apart_se": _error(squares) / (2 * root) if root else 0.0})
    return pd.DataFrame(rows)


def exponents(cells: pd.DataFrame) -> pd.DataFrame:
    """Returns p with its standard error, and c, of fits c·m^(−p) to ``FITTED`` in each cell.

    Weighted least squares on logarithms; the errors are scaled up where the fit is worse than the means' errors allow.
    """
    rows = []
    for values, part in cells.groupby(CELL, sort=False):
        for name in FITTED:
            used = part[(part[name] > SIGNIFICANT * part[f"{name}_se"]) & (part[name] > 0)]
            row = dict(zip(CELL, values, strict=True)) | {"quantity": name, "points": len(used)}
            rows.append(row | _fit(used.m.to_numpy(float), used[name].to_numpy(), used[f"{name}_se"].to_numpy()))
    return pd.DataFrame(rows)


def _fit(m: np.ndarray, values: np.ndarray, errors: np.ndarray) -> dict[str, float]:
    if len(m) < 3:
        return dict.fromkeys(("p", "p_se", "scale"), np.nan)
    weights = values / np.maximum(errors, 1e-12 * values)  # one over the error of the logarithm
    design = np.stack([np.ones_like(m), -np.log(m)], 1) * weights[:, None]
    target = np.log(values) * weights
    solution, *_ = np.linalg.lstsq(design, target, rcond=None)
    spread = np.sum((design @ solution - target) ** 2) / (len(m) - 2)
    covariance = np.linalg.inv(design.T @ design) * max(spread, 1.0)
    return {"p": solution[1], "p_se": np.sqrt(covariance[1, 1]), "scale": np.exp(solution[0])}


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan
