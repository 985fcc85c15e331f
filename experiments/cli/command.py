"""What a command of the program is; the config of each study has one as ``STUDY``."""

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
      name: on the command line.
      config: its flags, a dataclass whose docstring is the help; ``--quick`` starts from ``small()``.
      run: ``module:function``, imported when the command is given: (config, console, clock) -> folder of the record.
      workload: what ``--dry-run`` prints of a config whose flags have been checked.
      examples: flags shown in the help; every line is one that the command accepts.
    """

    name: str
    config: type[Config]
    run: str
    workload: Callable[[Config], Plan]
    examples: tuple[str, ...] = ("--quick", "--dry-run")

    def load(self) -> Run[Config]:
        """Returns what the command runs."""
        return pkgutil.resolve_name(self.run)
