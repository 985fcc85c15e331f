"""Common frame of all studies: writes the record, shows the report."""

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
    """Runs a study, writes its record, prints the report and returns the folder of the record.

    Args:
      command: name of the command.
      title: heading of the report.
      config: config of the command.
      console: console for the report.
      clock: times of the phases so far.
      work: writes data and figures to a folder; returns facts for ``config.json``, and the sections of the report or a
        function from the complete ``config.json`` to them.
      settings: for a study that can resume: settings that must be equal, see ``record``.

    Raises:
      BadInput: invalid ``config``.
      DryRun: ``config.dry_run`` is set.
    """
    if config.dry_run:
        raise DryRun(command, config)
    out = config.out or (settings and unfinished(command, settings)) or default_folder(command)
    with record(out, config.overwrite, settings) as folder:
        with clock.phase("set-up"):
            environment = describe()
        results, report = work(folder)
        facts = {
            "command": command_line(command, config),
            "config": dataclasses.asdict(config) | {"out": str(out)},
            **environment,
            **results,
            "seconds": clock.seconds,
            "peak_memory_bytes": peak_memory(),
        }
        sections = report(facts) if callable(report) else report
        (folder / "report.md").write_text(to_markdown(title, sections), encoding="utf-8")
        write_report(folder, title, sections, facts)
        write_config(folder, facts)
    show(console, sections)
    console.print(f"\nRecord: {out}", highlight=False, soft_wrap=True)
    return out


def check_axes(config: object, *names: str) -> None:
    """Raises ``BadInput`` unless each named axis has at least one value and no duplicates."""
    for name in names:
        values = getattr(config, name)
        if not values or len(set(values)) < len(values):
            raise BadInput(f"{name} must hold distinct values, at least one, got {list(values)}")
