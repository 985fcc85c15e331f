"""The seed study: training, choice on validation images, test accuracy, comparison with separate runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from jax import Array

from ...data import digits
from ...data.labelled import Labelled
from .config import SeedsConfig, settings
from .summary import choose, summarize
from .timing import Difference, Timing, difference, race
from .train import (
    Curves,
    Lane,
    Trained,
    make_lanes,
    make_separate,
    make_together,
    make_training,
    test_accuracy,
)

TOGETHER, VMAPPED, SEPARATE = "vmapped, shared by the devices", "vmapped, one device", "one after another"


class Study(NamedTuple):
    """Results of a study.

    Attributes:
      lanes: one row per lane: setting, seed, metrics after the last epoch; ``finite``: whether the loss is finite;
        ``chosen``: whether the setting is chosen; ``test_w`` and ``test_u`` of chosen lanes, else NaN.
      curves: one row per lane and epoch.
      raced: penalty of the timings.
      timings: time of each way to train the compared seeds of one setting.
      differences: for each penalty, difference between the vmapped grid and separate runs.
    """

    lanes: pd.DataFrame
    curves: pd.DataFrame
    raced: str
    timings: dict[str, Timing]
    differences: dict[str, Difference]


def conduct_study(config: SeedsConfig) -> Study:
    """Runs the study that ``config`` describes."""
    with jax.enable_x64(config.precision == "float64"):
        data, root = digits.load(config.precision), jax.random.key(config.key)
        trainings = {
            penalty: make_training(penalty, config.network, data, epochs=config.epochs, batch=config.batch, root=root)
            for penalty in config.penalty
        }
        raced = next((penalty for penalty in config.penalty if penalty != "none"), config.penalty[0])
        timings = _race(config, raced, trainings[raced])
        parts = {penalty: _study_one(config, penalty, train, data.test) for penalty, train in trainings.items()}
    lanes = pd.concat([part[0] for part in parts.values()], ignore_index=True)
    curves = pd.concat([part[1] for part in parts.values()], ignore_index=True)
    differences = {penalty: part[2] for penalty, part in parts.items()}
    return Study(lanes, curves, raced, timings, differences)


def _race(config: SeedsConfig, penalty: str, train: Callable[[Lane[Array]], Trained]) -> dict[str, Timing]:
    grid = settings(config, penalty)
    lanes = make_lanes(config, [grid[len(grid) // 2]], min(config.compared, config.seeds))
    together, vmapped, separate = make_together(train), jax.jit(jax.vmap(train)), make_separate(train)
    ways = {TOGETHER: lambda: together(lanes), VMAPPED: lambda: vmapped(lanes), SEPARATE: lambda: separate(lanes)}
    return race(ways, config.rounds)


def _study_one(
    config: SeedsConfig, penalty: str, train: Callable[[Lane[Array]], Trained], test: Labelled
) -> tuple[pd.DataFrame, pd.DataFrame, Difference]:
    """Returns lanes, curves and the difference from separate runs of one penalty."""
    grid = settings(config, penalty)
    trained = make_together(train)(make_lanes(config, grid, config.seeds))
    count, start = min(config.compared, config.seeds), len(grid) // 2 * config.seeds
    vmapped = jax.tree.map(lambda x: x[start : start + count], trained)
    separate = make_separate(train)(make_lanes(config, [grid[len(grid) // 2]], count))
    lanes = _frame(penalty, grid, trained.curves, config.seeds)
    lanes["chosen"] = lanes.setting == choose(summarize(lanes), config.min_sparsity)
    for name in ("w", "u"):
        params = jax.tree.map(lambda x: x[lanes.chosen.to_numpy()], getattr(trained, name))
        lanes.loc[lanes.chosen, f"test_{name}"] = test_accuracy(config.network, params, test)
    return lanes, _long(lanes, trained.curves), difference(vmapped, separate)


def _frame(penalty: str, grid: list[dict[str, float]], curves: Curves, seeds: int) -> pd.DataFrame:
    """Returns one row per lane, with the metrics after the last epoch."""
    rows = [
        {"penalty": penalty, "setting": i, **values, "seed": seed}
        for i, values in enumerate(grid)
        for seed in range(seeds)
    ]
    ends = {name: curve[:, -1] for name, curve in curves._asdict().items()}
    return pd.DataFrame(rows).assign(**ends, finite=np.isfinite(ends["loss"]), test_w=np.nan, test_u=np.nan)


def _long(lanes: pd.DataFrame, curves: Curves) -> pd.DataFrame:
    """Returns one row per lane and epoch."""
    epochs = curves.loss.shape[1]
    labels = lanes[["penalty", "setting", "seed", "chosen"]].loc[lanes.index.repeat(epochs)].reset_index(drop=True)
    numbers = {name: curve.ravel() for name, curve in curves._asdict().items()}
    return labels.assign(epoch=np.tile(np.arange(1, epochs + 1), len(lanes)), **numbers)
