"""Cost estimates of a command for ``--dry-run``: amount of work, time, memory, disk.

Times were measured on two server cores (AMD EPYC) and are scaled with the work and the cores; compile times are not
scaled. They are rough: minutes or hours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from ..records.environment import usable_cores

MEASURED_ON = 2
"""Cores of the machine on which the costs were measured."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Estimated cost of a command; None if unknown."""

    command: str
    size: str
    seconds: float | None
    memory_bytes: float | None
    disk_bytes: float | None = None

    def lines(self) -> list[str]:
        """Returns the lines that ``--dry-run`` prints."""
        rows = {
            "size": self.size,
            "time": duration(self.seconds),
            "memory": "not known" if self.memory_bytes is None else f"about {self.memory_bytes / 1e9:.1f} GB",
            "disk": "not known" if self.disk_bytes is None else f"up to {self.disk_bytes / 1e9:.1f} GB",
        }
        return [f"{self.command}: nothing is run, nothing written", *(f"  {name:7} {v}" for name, v in rows.items())]


Config = TypeVar("Config")


class Seeded(Protocol):
    """A config with a number of seeds."""

    @property
    def seeds(self) -> int:
        """Random problems per cell."""


class Cost(NamedTuple):
    """Measured cost of a command with default flags: fixed seconds, seconds proportional to the work, memory."""

    fixed: float
    growing: float
    memory_gb: float


def in_proportion(command: str, cost: Cost, work: Callable[[Config], tuple[int, str]]) -> Callable[[Config], Plan]:
    """Returns the ``workload`` of a command whose time grows with the amount of work.

    Args:
      command: name of the command.
      cost: cost with default flags.
      work: function config -> (amount of work, unit).
    """

    def workload(config: Config) -> Plan:
        amount, unit = work(config)
        share = amount / max(work(type(config)())[0], 1)
        seconds = cost.fixed + cost.growing * share * MEASURED_ON / usable_cores()
        return Plan(command, f"{amount:,} {unit}", seconds, 1e9 * cost.memory_gb, 1e8)

    return workload


def always(command: str, size: str, cost: Cost) -> Callable[[object], Plan]:
    """Returns the ``workload`` of a command whose cost does not depend on its flags."""
    return lambda config: Plan(command, size, float(cost.fixed), 1e9 * cost.memory_gb, 1e8)


def duration(seconds: float | None) -> str:
    """Returns a rounded time with its unit."""
    if seconds is None:
        return "not known"
    units = ((100, 1, "s"), (6000, 60, "min"), (360_000, 3600, "h"), (math.inf, 86_400, "days"))
    unit, name = next((unit, name) for limit, unit, name in units if seconds < limit)
    return f"about {seconds / unit:.2g} {name}"


def product(config: object, *names: str) -> int:
    """Returns the number of combinations of the named axes of a config."""
    return math.prod(len(getattr(config, name)) for name in names)


def lanes(config: Seeded, *names: str, each: int = 1) -> tuple[int, str]:
    """Returns the number of lanes of a grid over the named axes, ``each`` per combination and seed."""
    return product(config, *names) * config.seeds * each, "lanes"
