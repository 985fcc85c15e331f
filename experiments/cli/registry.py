"""The commands of the program. A new study is a folder that exports ``STUDY``, and a line here."""

from __future__ import annotations

import functools
import pkgutil

from experiments.cli.command import Command

PACKAGE = __name__.partition(".")[0]
STUDIES = (
    "studies.sweep",
    "studies.paper_figures",
    "studies.audit",
    "studies.binary",
    "studies.tune",
    "studies.aht",
    "studies.admm",
    "studies.stopping",
    "studies.seeds",
    "studies.lenet.binary",
    "studies.lenet.compress",
    "studies.lenet.shrink",
    "studies.cifar",
    "cli.report",
)
"""Modules that export a command as ``STUDY``, in the order of the help."""


@functools.cache
def commands() -> dict[str, Command]:
    """Returns the commands by name."""
    found = [pkgutil.resolve_name(f"{PACKAGE}.{name}:STUDY") for name in STUDIES]
    return {command.name: command for command in found}
