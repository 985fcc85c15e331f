"""What a command would do, without doing it: how much, memory, disk, time; for ``--dry-run``.

Times are those that runs took on two cores of a server (AMD EPYC), in proportion to the work and the cores; what is
compiled takes as long anywhere. They are guesses, meant to tell a coffee from a night.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from ..records.environment import usable_cores

MEASURED_ON = 2
"""Cores of the machine on which the times of the studies were measured."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a command would do; None: not known."""

    command: str
    size: str
    seconds: float | None
    memory_bytes: float | None
    disk_bytes: float | None = None

    def lines(self) -> list[str]:
        """Returns the plan in words."""
        known = {
            "size": self.size,
            "time": duration(self.seconds),
            "memory": "not known" if self.memory_bytes is None else f"about {self.memory_bytes / 1e9:.1f} GB",
            "disk": "not known" if self.disk_bytes is None else f"up to {self.disk_bytes / 1e9:.1f} GB",
        }
        return [f"{self.command}: nothing is run, nothing written", *(f"  {name:7} {v}" for name, v in known.items())]


Config = TypeVar("Config")


class Seeded(Protocol):
    """A config of random problems."""

    @property
    def seeds(self) -> int:
        """Random problems in each cell."""


class Cost(NamedTuple):
    """What the defaults of a command took: seconds that do not grow with the work, and those that do; memory."""

    fixed: float
    growing: float
    memory_gb: float


def in_proportion(command: str, cost: Cost, work: Callable[[Config], tuple[int, str]]) -> Callable[[Config], Plan]:
    """Returns what estimates a command whose time grows with its work.

    Args:
      command: its name.
      cost: what its defaults took.
      work: returns how much a config asks for, and of what.
    """

    def workload(config: Config) -> Plan:
        amount, unit = work(config)
        share = amount / max(work(type(config)())[0], 1)
        seconds = cost.fixed + cost.growing * share * MEASURED_ON / usable_cores()
        return Plan(command, f"{amount:,} {unit}", seconds, 1e9 * cost.memory_gb, 1e8)

    return workload


def always(command: str, size: str, cost: Cost) -> Callable[[object], Plan]:
    """Returns what estimates a command that has no more to do for any flag."""
    return lambda config: Plan(command, size, float(cost.fixed), 1e9 * cost.memory_gb, 1e8)


def duration(seconds: float | None) -> str:
    """Returns a time in words, roughly."""
    if seconds is None:
        return "not known"
    units = ((100, 1, "s"), (6000, 60, "min"), (360_000, 3600, "h"), (math.inf, 86_400, "days"))
    unit, name = next((unit, name) for limit, unit, name in units if seconds < limit)
    return f"about {seconds / unit:.2g} {name}"


def product(config: object, *names: str) -> int:
    """Returns how many combinations the named axes of a config have."""
    return math.prod(len(getattr(config, name)) for name in names)


def lanes(config: Seeded, *names: str, each: int = 1) -> tuple[int, str]:
    """Returns the lanes of a grid over the named axes: ``each`` for a combination and seed."""
    return product(config, *names) * config.seeds * each, "lanes"
