"""Registry of the commands. A new study needs a folder whose ``config`` exports ``STUDY``, and a line here."""

from __future__ import annotations

import functools
import pkgutil
from typing import Any

from .command import Command

PACKAGE = __name__.rpartition(".cli.")[0]
STUDIES = (
    "studies.sweep.config",
    "studies.paper_figures.config",
    "studies.audit.config",
    "studies.binary.config",
    "studies.tune.config",
    "studies.aht.config",
    "studies.admm.config",
    "studies.stopping.config",
    "studies.recovery.config",
    "studies.samples.config",
    "studies.classify.config",
    "studies.seeds.config",
    "studies.dimension.config",
    "studies.methods.config",
    "studies.lenet.binary.config",
    "studies.lenet.compress.config",
    "studies.lenet.records.config",
    "studies.lenet.shrink.config",
    "studies.cifar.config",
    "cli.report",
)
"""Modules that export ``STUDY``, in the order of the help."""


@functools.cache
def commands() -> dict[str, Command[Any]]:
    """Returns the commands by name."""
    studies = (pkgutil.resolve_name(f"{PACKAGE}.{name}:STUDY") for name in STUDIES)
    return {command.name: command for command in studies}
