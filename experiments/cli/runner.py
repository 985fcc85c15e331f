"""What every study does around its own work: the record, the report, the last line on the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from ..records.environment import Clock, describe, peak_memory
from ..records.folder import BadInput, DryRun, Facts, default_folder, record, unfinished, write_config
from ..reports.document import Section, show, to_markdown
from ..reports.html_page import write_report
from .flags import CommonFlags, command_line

Report = Sequence[Section] | Callable[[Facts], Sequence[Section]]
Work = Callable[[Path], tuple[Facts, Report]]


def conduct(
    command: str,
    title: str,
    config: CommonFlags,
    console: Console,
    clock: Clock,
    work: Work,
    settings: Facts | None = None,
) -> Path:
    """Returns the folder of the record that ``work`` filled, its report shown on the console.

    Args:
      command: the name on the command line.
      title: heading of the report.
      config: the command's config, with the fields ``out`` and ``overwrite``.
      console: where the report is shown.
      clock: the times of the phases so far.
      work: writes data and figures to the folder; returns what goes into ``config.json``, and the report, as sections
        or as a function that makes them of the whole ``config.json``.

    Raises:
      BadInput: anything in ``config`` that the user can mend.
      DryRun: no more than a plan was asked for.
    """
    if config.dry_run:
        raise DryRun(command, config)
    out = config.out or (settings and unfinished(command, settings)) or default_folder(command)
    with record(out, config.overwrite, settings) as folder:
        with clock.phase("set-up"):
            surroundings = describe()
        found, report = work(folder)
        asked = dataclasses.asdict(config) | {"out": str(out)}
        measured = {"seconds": clock.seconds, "peak_memory_bytes": peak_memory()}
        again = {"command": command_line(command, config)}
        facts = again | {"config": asked, **surroundings, **found, **measured}
        sections = report(facts) if callable(report) else report
        (folder / "report.md").write_text(to_markdown(title, sections), encoding="utf-8")
        write_report(folder, title, sections, facts)
        write_config(folder, facts)
    show(console, sections)
    console.print(f"\nRecord: {out}", highlight=False, soft_wrap=True)
    return out


def check_axes(config: object, *names: str) -> None:
    """Raises ``BadInput`` unless each named axis holds distinct values, at least one."""
    for name in names:
        values = getattr(config, name)
        if not values or len(set(values)) < len(values):
            raise BadInput(f"{name} must hold distinct values, at least one, got {list(values)}")
