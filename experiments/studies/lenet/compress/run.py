"""Trains the unfinished runs and writes the record."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ....cli.runner import check_axes
from ....records.environment import Clock
from ....records.folder import BadInput, require_one_of
from ....training.study import conduct_study
from . import report
from .config import METHODS, Lenet5CompressConfig, make_study


def run(config: Lenet5CompressConfig, console: Console, clock: Clock) -> Path:
    """Trains the unfinished runs and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """
    config.check_training("mnist", "digits")
    check_axes(config, "sparsity", "methods")
    for value in config.sparsity:
        if not 0 < value < 1:
            raise BadInput(f"sparsity must be in (0, 1), got {value:g}")
    for name in config.methods:
        require_one_of("methods", name, METHODS)
    for name in ("tune_epochs", "few_seeds"):
        if getattr(config, name) < 1:
            raise BadInput(f"{name} must be a whole number >= 1, got {getattr(config, name)}")

    study, title = make_study(config), "LeNet-5 with few weights"
    return conduct_study("lenet5-compress", title, study, config, report, console, clock)
