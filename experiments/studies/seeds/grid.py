"""Grid of the seed study: settings of each penalty and their lanes."""

from __future__ import annotations

import itertools
from typing import Protocol

import numpy as np

from .train import Lane

AXES = {"none": [], "top_k": ["beta", "sparsity"]}
"""Axes of the trainings without λ, in addition to the learning rate."""
NUMBERS = ["lam", "beta", "sparsity", "learning_rate"]
ABSENT = {"lam": 0.0, "beta": 1.0, "sparsity": 0.0, "learning_rate": np.nan}
"""Placeholder values of absent axes, without effect."""


class Shared(Protocol):
    """Fields of a config shared by all lanes."""

    @property
    def a(self) -> float:
        """Shape of transformed l1."""

    @property
    def precision(self) -> str:
        """Floating-point precision."""


def settings(config: object, penalty: str) -> list[dict[str, float]]:
    """Returns the hyperparameters of each setting of a penalty; NaN for absent ones."""
    names = [*AXES.get(penalty, ["lam", "beta"]), "learning_rate"]
    blank = dict.fromkeys(NUMBERS, np.nan)
    values = itertools.product(*(getattr(config, name) for name in names))
    return [blank | dict(zip(names, chosen, strict=True)) for chosen in values]


def make_lanes(config: Shared, chosen: list[dict[str, float]], seeds: int) -> Lane[np.ndarray]:
    """Returns the lanes of the first ``seeds`` seeds, setting by setting."""
    table = np.array([[setting[name] for name in NUMBERS] for setting in chosen]).repeat(seeds, 0)
    table = np.where(np.isnan(table), [ABSENT[name] for name in NUMBERS], table).astype(config.precision)
    numbers = dict(zip(NUMBERS, table.T, strict=True))
    a = np.full(len(table), config.a, config.precision)
    return Lane(seed=np.tile(np.arange(seeds, dtype=np.uint32), len(chosen)), a=a, **numbers)
