"""Trains the unfinished runs and writes the record."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ...records.environment import Clock
from ...training.study import conduct_study
from . import report
from .config import CifarConfig, check, make_study, settled


def run(config: CifarConfig, console: Console, clock: Clock) -> Path:
    """Trains the unfinished runs and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """
    check(config)
    config = settled(config)
    config.check_training("cifar10", "digits32")
    title = f"{config.net} on {'CIFAR-10' if config.data == 'cifar10' else 'enlarged digits'}, {config.preset} settings"
    marker = f"cifar --net {config.net} --preset {config.preset}" + " --sparsity" * (config.sparsity is not None)
    return conduct_study(marker, title, make_study(config), config, report, console, clock)
