"""Trains the unfinished runs and writes the record."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ....cli.runner import check_axes
from ....records.environment import Clock
from ....records.folder import BadInput
from ....training.study import conduct_study
from . import report
from .config import LenetBinaryConfig, make_study


def run(config: LenetBinaryConfig, console: Console, clock: Clock) -> Path:
    """Trains the unfinished runs and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """
    config.check_training("mnist", "digits")
    check_axes(config, "lam")
    if min(config.lam) <= 0:
        raise BadInput(f"lam must be > 0, got {min(config.lam):g}")
    if config.best_epochs < 1:
        raise BadInput(f"best_epochs must be a whole number >= 1, got {config.best_epochs}")
    for name in ("other_epochs", "settings_epochs"):
        if getattr(config, name) < 0:
            raise BadInput(f"{name} must be >= 0, got {getattr(config, name)}")
    title = "Sparse LeNet with binarized activations" + (", at its best" if config.best else ": F Table 1")

    marker = "lenet-binary" + " --best" * config.best
    return conduct_study(marker, title, make_study(config), config, report, console, clock)
