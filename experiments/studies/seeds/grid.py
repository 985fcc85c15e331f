"""The grid of a seed study: the settings of each penalty, and their lanes."""

from __future__ import annotations

import itertools
from typing import Protocol

import numpy as np

from .train import Lane

AXES = {"none": [], "top_k": ["beta", "sparsity"]}
"""Which axes, beside the learning rate, the kinds of training have that are no penalty with a λ."""
NUMBERS = ["lam", "beta", "sparsity", "learning_rate"]
ABSENT = {"lam": 0.0, "beta": 1.0, "sparsity": 0.0, "learning_rate": np.nan}
"""What a penalty is given for an axis that it has not; it has no effect."""


class Shared(Protocol):
    """What of a config all lanes share."""

    @property
    def a(self) -> float:
        """Shape of transformed l1."""

    @property
    def precision(self) -> str:
        """Floating-point precision."""


def settings(config: object, penalty: str) -> list[dict[str, float]]:
    """Returns the hyperparameters of each setting of a penalty; NaN for those that it has not."""
    names = [*AXES.get(penalty, ["lam", "beta"]), "learning_rate"]
    blank = dict.fromkeys(NUMBERS, np.nan)
    values = itertools.product(*(getattr(config, name) for name in names))
    return [blank | dict(zip(names, chosen, strict=True)) for chosen in values]


def make_lanes(config: Shared, chosen: list[dict[str, float]], seeds: int) -> Lane[np.ndarray]:
    """Returns the lanes of the first ``seeds`` seeds of each setting, one setting after another."""
    table = np.array([[own[name] for name in NUMBERS] for own in chosen]).repeat(seeds, 0)
    table = np.where(np.isnan(table), [ABSENT[name] for name in NUMBERS], table).astype(config.precision)
    numbers = dict(zip(NUMBERS, table.T, strict=True))
    a = np.full(len(table), config.a, config.precision)
    return Lane(seed=np.tile(np.arange(seeds, dtype=np.uint32), len(chosen)), a=a, **numbers)
