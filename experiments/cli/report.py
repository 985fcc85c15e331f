"""The pages of records again: of one with what it holds, of several beside each other.

Command: ``python -m experiments report FOLDER...``. Seconds.
"""

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
"""Records beside each other: as many as there are letters."""


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Write the page of a record anew, or one page of several records of a command, side by side.

    Differences of configuration are marked.
    """

    folders: Positional[Annotated[Folders, arg(name="folder")]] = ()
    """Folders of records."""
    out: PageFile = None
    """The page: FOLDER/report.html for one record, which is replaced; else a file that must not exist."""
    overwrite: bool = False
    """Replace the file that is in --out."""
    dry_run: bool = False
    """Check the records, and stop."""
    json: bool = False
    """Print one JSON object with the page's file."""
    quiet: bool = False
    """Print nothing but errors."""


def run(config: ReportConfig, console: Console, clock: Clock) -> Path:
    """Writes the page and returns its file.

    Raises:
      BadInput: anything in ``config`` that the user can mend.
      DryRun: no more than a plan was asked for.
    """
    folders = config.folders
    if not folders or len(folders) > MOST or len({folder.resolve() for folder in folders}) < len(folders):
        raise BadInput(f"records must be 1 to {MOST}, and different, got {' '.join(map(str, folders)) or 'none'}")
    records = [read_record(folder) for folder in folders]
    commands = sorted({record.command for record in records})
    if len(commands) > 1:
        raise BadInput(f"records must be of one command, got {' and '.join(commands)}")
    out = config.out or (folders[0] / PAGE if len(folders) == 1 else _default(commands[0]))
    if out.exists() and not config.overwrite and out != folders[0] / PAGE:
        raise BadInput(f"out must be a new file unless --overwrite is given, got {out}, which exists")
    if config.dry_run:
        raise DryRun("report", config)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f".{out.name}.part")
        part.write_text(to_html(records), encoding="utf-8")
        part.replace(out)
    except OSError as error:
        raise BadInput(f"out must be a file that can be written, got {out} ({error.strerror})") from None
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
