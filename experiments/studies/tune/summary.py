"""Statistics of the tuning, from held-out seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

WIDTH = 1.96
"""Half the width of a 95 % interval, in standard errors."""


def summarize(results: xr.Dataset) -> pd.DataFrame:
    """Returns one row per cell and tuner: choice, and mean and standard error on the held-out seeds."""
    count = results.sizes["seed"]
    d = results.d.astype(float)
    part = xr.Dataset(
        {
            "theta": results.theta.mean("seed"),
            "theta_std": results.theta.std("seed", ddof=1),
            "theta_sem": results.theta.std("seed", ddof=1) / np.sqrt(count),
            "share": results.zeros.mean("seed") / d,
            "best": results.best.mean("seed"),
            "converged": results.converged.mean("seed"),
            "excess": (results.theta - results.best).mean("seed"),
            **{name: results[name] for name in results.data_vars if "seed" not in results[name].dims},
        }
    )
    return part.to_dataframe().reset_index().assign(seeds=count)


def tuned(results: xr.Dataset) -> xr.Dataset:
    """Returns for each cell the better of gradient and grid on the training seeds."""
    both = results.sel(tuner=["gradient", "grid"])
    return both.isel(tuner=both.train_theta.argmin("tuner"))


def reference(results: xr.Dataset) -> str:
    """Returns the penalty whose supports define the least possible angle: l0 if present, else the first."""
    names = [str(name) for name in results.penalty.values]
    return "l0" if "l0" in names else names[0]


def differences(results: xr.Dataset) -> pd.DataFrame:
    """Returns the paired differences of tuned Tl1 from tuned l0 and l1 per cell: means and half 95 % intervals.

    Quantities: the angle, its excess over the least angle with as many nonzero components, and the share of zeros,
    which is calibrated only in the mean over the training seeds.
    """
    best, rows = tuned(results), []
    for other in (name for name in ("l0", "l1") if name in best.penalty):
        ours, theirs = best.sel(penalty="tl1"), best.sel(penalty=other)
        for quantity, gap in (
            ("theta", ours.theta - theirs.theta),
            ("excess", ours.theta - ours.best - theirs.theta + theirs.best),
            ("share", (ours.zeros - theirs.zeros) / results.d),
        ):
            half = WIDTH * gap.std("seed", ddof=1) / np.sqrt(gap.sizes["seed"])
            frame = xr.Dataset({"mean": gap.mean("seed"), "half": half}).to_dataframe().reset_index()
            rows.append(frame[["d", "truth_zeros", "sparsity", "mean", "half"]].assign(other=other, quantity=quantity))
    return pd.concat(rows, ignore_index=True)
