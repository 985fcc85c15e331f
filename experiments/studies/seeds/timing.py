"""Timing of several ways to train the same lanes, and the difference of their results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from rvsmjax._pytree import PyTree

from .train import Trained


class Timing(NamedTuple):
    """Seconds: the minimum of several calls, and the excess of the first call (compilation)."""

    run: float
    compile: float


def race(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Returns the timing of each way: one first call each, then ``rounds`` rounds in alternation."""
    first = {name: _seconds(way) for name, way in ways.items()}
    turns = [{name: _seconds(way) for name, way in ways.items()} for _ in range(rounds)]
    least = {name: min(turn[name] for turn in turns) for name in ways}
    return {name: Timing(least[name], max(0.0, first[name] - least[name])) for name in ways}


class Difference(NamedTuple):
    """Largest absolute differences; NaN if a value is NaN.

    Attributes:
      numbers: difference of the weights w and u and of the losses.
      median: the same in the median lane; a ReLU switched by rounding changes a lane's weights far more.
      shares: difference of accuracies and shares of zeros, which change by whole images and weights.
    """

    numbers: float
    median: float
    shares: float


def difference(one: Trained, other: Trained) -> Difference:
    """Returns the difference between two trainings of the same lanes."""

    def largest(a: PyTree, b: PyTree) -> np.ndarray:
        parts = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        return np.max([np.abs(np.subtract(x, y)).reshape(len(x), -1).max(1) for x, y in parts], 0)

    numbers = [(result.w, result.u, result.curves.loss) for result in (one, other)]
    shares = [(result.curves.accuracy_w, result.curves.accuracy_u, result.curves.zeros) for result in (one, other)]
    by_lane = largest(*numbers)
    return Difference(float(by_lane.max()), float(np.median(by_lane)), float(largest(*shares).max()))


def _seconds(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(way())
    return time.perf_counter() - start
