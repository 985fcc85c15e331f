"""Description of a command; the ``config`` module of each study exports one as ``STUDY``."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from rich.console import Console

from ..records.environment import Clock
from .estimate import Plan

Config = TypeVar("Config")
Run = Callable[[Config, Console, Clock], Path | None]


class Command(NamedTuple, Generic[Config]):
    """A command.

    Attributes:
      name: name on the command line.
      config: flags, a dataclass whose docstring is the help text; ``--quick`` starts from ``small()``.
      run: ``module:function``, imported on dispatch: (config, console, clock) -> folder of the record.
      workload: estimate for a valid config, printed by ``--dry-run``.
      examples: flags for the examples in the help.
    """

    name: str
    config: type[Config]
    run: str
    workload: Callable[[Config], Plan]
    examples: tuple[str, ...] = ("--quick", "--dry-run")

    def load(self) -> Run[Config]:
        """Imports and returns the function that the command runs."""
        return pkgutil.resolve_name(self.run)
