"""Ways to the same numbers, timed by turns, and how far their numbers are apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from rvsmjax._pytree import PyTree

from .train import Trained


class Timing(NamedTuple):
    """Seconds: the least of several calls, and what the first took longer (compilation)."""

    run: float
    compile: float


def race(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Returns the timing of each way; after one call each they take turns, for ``rounds`` rounds."""
    first = {name: _seconds(way) for name, way in ways.items()}
    turns = [{name: _seconds(way) for name, way in ways.items()} for _ in range(rounds)]
    least = {name: min(turn[name] for turn in turns) for name in ways}
    return {name: Timing(least[name], max(0.0, first[name] - least[name])) for name in ways}


class Difference(NamedTuple):
    """Largest absolute differences; NaN where a number is NaN.

    Attributes:
      numbers: of the weights w and u and of the losses.
      median: of the same in the median lane; a ReLU that rounding switches moves a lane's weights by far more.
      shares: of the accuracies and of the shares of zeros, which rounding moves by whole images and weights.
    """

    numbers: float
    median: float
    shares: float


def difference(one: Trained, other: Trained) -> Difference:
    """Returns how far the ends and the curves of the same lanes are apart."""

    def largest(a: PyTree, b: PyTree) -> np.ndarray:
        parts = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        return np.max([np.abs(np.subtract(x, y)).reshape(len(x), -1).max(1) for x, y in parts], 0)

    numbers = [(own.w, own.u, own.curves.loss) for own in (one, other)]
    shares = [(own.curves.accuracy_w, own.curves.accuracy_u, own.curves.zeros) for own in (one, other)]
    by_lane = largest(*numbers)
    return Difference(float(by_lane.max()), float(np.median(by_lane)), float(largest(*shares).max()))


def _seconds(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(way())
    return time.perf_counter() - start
