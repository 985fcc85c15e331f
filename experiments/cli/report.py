"""Command ``report``: rewrites the page of a record, or writes one page that compares several records."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from ..records.environment import Clock
from ..records.folder import BadInput, DryRun
from ..reports.html_page import PAGE, read_record, to_html
from .command import Command
from .estimate import Cost, always
from .flags import Folders, PageFile

MOST = 26
"""Records on one page: each is labelled by a letter."""


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Rewrite the page of a record, or show several records of a command side by side on one page.

    Differences between their configurations are marked.
    """

    folders: Positional[Annotated[Folders, arg(name="folder")]] = ()
    """Folders of records."""
    out: PageFile = None
    """Page to write: by default FOLDER/report.html for one record (replaced), else a new file under results/."""
    overwrite: bool = False
    """Replace an existing file --out."""
    dry_run: bool = False
    """Check the records and exit."""
    json: bool = False
    """Print the path of the page as one JSON object."""
    quiet: bool = False
    """Print only errors."""


def run(config: ReportConfig, console: Console, clock: Clock) -> Path:
    """Writes the page and returns its path.

    Raises:
      BadInput: invalid flags or records.
      DryRun: ``config.dry_run`` is set.
    """
    folders = config.folders
    if not folders or len(folders) > MOST or len({folder.resolve() for folder in folders}) < len(folders):
        raise BadInput(f"FOLDER must name 1 to {MOST} distinct records, got {' '.join(map(str, folders)) or 'none'}")
    records = [read_record(folder) for folder in folders]
    commands = sorted({record.command for record in records})
    if len(commands) > 1:
        raise BadInput(f"FOLDER must name records of one command, got {' and '.join(commands)}")
    out = config.out or (folders[0] / PAGE if len(folders) == 1 else _default(commands[0]))
    if out.exists() and not config.overwrite and out != folders[0] / PAGE:
        raise BadInput(f"out must be a new file unless --overwrite is given, got existing {out}")
    if config.dry_run:
        raise DryRun("report", config)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f".{out.name}.part")
        part.write_text(to_html(records), encoding="utf-8")
        part.replace(out)
    except OSError as error:
        raise BadInput(f"out must be a writable file, got {out} ({error.strerror})") from None
    console.print(f"Page: {out}", highlight=False, soft_wrap=True)
    return out


def _default(command: str) -> Path:
    return Path("results") / f"{command}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}.html"


STUDY = Command(
    name="report",
    config=ReportConfig,
    run=f"{__name__}:run",
    workload=always("report", "a page", Cost(1, 0, 0.2)),
    examples=("results/sweep", "results/sweep results/double --out both.html"),
)
