"""Trains the unfinished runs and writes the record."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ....cli.runner import check_axes
from ....records.environment import Clock
from ....records.folder import BadInput, require_one_of
from ....training.study import conduct_study
from . import report
from .config import METHODS, NETS, LenetRecordsConfig, cells, make_study


def run(config: LenetRecordsConfig, console: Console, clock: Clock) -> Path:
    """Trains the unfinished runs and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """
    config.check_training("mnist", "digits")
    check_axes(config, "network", "times", "methods")
    for name, known in (("network", NETS), ("methods", METHODS)):
        for value in getattr(config, name):
            require_one_of(name, value, known)
    if not cells(config):
        raise BadInput(f"times must hold a size of {' or '.join(config.network)}, got {list(config.times)}")
    if config.epochs < 2:
        raise BadInput(f"epochs must be >= 2, with fine-tuning, got {config.epochs}")
    title = "LeNet at the fewest weights"
    return conduct_study("lenet-records", title, make_study(config), config, report, console, clock)
