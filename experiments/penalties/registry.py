"""One table of penalties for all studies. A new one is a line here; one's own is given as ``MODULE:CLASS``."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import rvsmjax as rv
from rvsmjax.sweep.grid import PENALTIES as IN_GRIDS

from .palette import BLACK, BLUE, CYAN, GREEN, GREY, INK, PURPLE, RED, YELLOW


class Entry(NamedTuple):
    """A penalty as studies see it.

    Attributes:
      name: on the command line and in data.
      make: its class, or what returns it.
      label: in reports.
      color: in figures.
      marker: in figures, as Vega calls it.
      parameter: the number that ``make`` takes and the flag ``--a`` varies; empty where there is none.
    """

    name: str
    make: Callable[..., rv.Penalty]
    label: str
    color: str = INK
    marker: str = "diamond"
    parameter: str = ""

    def __call__(self, value: Any = 1.0) -> rv.Penalty:
        """Returns the penalty, at a value of its parameter where it has one."""
        return self.make(value) if self.parameter else self.make()


PENALTIES = {
    entry.name: entry
    for entry in (
        Entry("l1", rv.L1, "ℓ1", YELLOW, "circle"),
        Entry("l0", rv.L0, "ℓ0", BLUE, "triangle-up"),
        Entry("tl1", rv.TransformedL1, "Tℓ1", RED, "square", "a"),
        Entry("mcp", rv.MCP, "MCP", GREEN, "diamond", "gamma"),
        Entry("scad", rv.SCAD, "SCAD", CYAN, "cross"),  # γ = 3.7: --a is 1 by default, where γ > 1
        Entry("l_half", rv.LHalf, "ℓ1/2", PURPLE, "triangle-down"),
        Entry("log_sum", rv.LogSum, "log-sum", BLACK, "triangle-left", "epsilon"),
        Entry("capped_l1", rv.CappedL1, "capped ℓ1", GREY, "triangle-right", "theta"),
    )
}


def find(name: str, *others: str) -> Entry:
    """Returns a penalty by its name, or a user's own by ``MODULE:CLASS`` or ``MODULE:INSTANCE``.

    Args:
      name: either.
      others: names that the study knows beside these, for the message.

    Raises:
      ValueError: there is none.
    """
    if name in PENALTIES:
        return PENALTIES[name]
    if ":" not in name:
        known = ", ".join((*others, *PENALTIES))
        raise ValueError(f"penalty must be one of {known}, or MODULE:CLASS of your own, got {name!r}")
    try:
        found = pkgutil.resolve_name(name)
        own = found() if isinstance(found, type) else found
    except Exception as error:  # whatever the user's module raises
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"penalty must be a MODULE:CLASS that can be imported and made, got {name!r} ({reason})"
        ) from None
    if not isinstance(own, rv.Penalty):
        raise ValueError(
            f"penalty must be a class or an instance of rvsmjax.Penalty, got {name!r}, a {type(own).__name__}"
        )
    return Entry(own.name, lambda: own, type(own).__name__)


def look(name: str) -> Entry:
    """Returns how a penalty of a record is shown; one that is not in the table by its name, in grey."""
    return PENALTIES.get(name) or Entry(name, rv.L1, name.rpartition(":")[2])


def label(name: str) -> str:
    """Returns how a penalty of a record is called in reports."""
    return look(name).label


def for_grid(names: Iterable[str], values: Sequence[float] = (1.0,)) -> tuple[str | rv.Penalty, ...]:
    """Returns what ``Grid`` takes as ``penalty``: names that it knows, else instances, one for each of ``values``."""
    found: list[str | rv.Penalty] = []
    for name in names:
        entry = find(name)
        if name in IN_GRIDS:
            found.append(name)
        else:
            found += [entry(value) for value in values] if entry.parameter else [entry()]
    return tuple(found)
