"""Results as lines of JSON, each flushed to disk before the next row starts.

A line has a ``kind``: ``begun`` (a row has started), ``result``, ``failed`` (an error, or the signal that ended the
process) or ``stopped`` (a training that would have missed its deadline).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..records.folder import BadInput, Facts
from .jobs import Job, Row
from .paths import Paths

FILE_BYTES, FILES = 15 * 2**20, 3
"""Limits on the result files, within those of the transfer back."""
EARLIER = "earlier-"
"""Prefix of result files from an earlier call on the same machine, which are transferred again."""
Line = dict[str, Any]


class Writer:
    """Appends lines to the results in several folders.

    Args:
      folders: folders of results.jsonl, results-2.jsonl, ...
      stamp: fields common to all lines.
    """

    def __init__(self, folders: Iterable[Path], stamp: Line) -> None:
        self.folders, self.stamp = tuple(folders), stamp
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, line: Line) -> None:
        """Writes a line in one piece and flushes it to disk.

        Raises:
          BadInput: the result files are full.
        """
        data = (json.dumps(self.stamp | line, ensure_ascii=False, allow_nan=False) + "\n").encode()
        for folder in self.folders:
            descriptor = os.open(_file(folder, len(data)), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                size = os.fstat(descriptor).st_size
                truncated = bool(size) and os.pread(descriptor, 1, size - 1) != b"\n"
                os.write(descriptor, b"\n" * truncated + data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _file(folder: Path, more: int) -> Path:
    for number in range(1, FILES + 1):
        path = folder / ("results.jsonl" if number == 1 else f"results-{number}.jsonl")
        if not path.exists() or path.stat().st_size + more < FILE_BYTES:
            return path
    raise BadInput(f"{folder} must hold at most {FILES} files of results of {FILE_BYTES:,} bytes, got another line")


def read(*paths: Path) -> list[Line]:
    """Returns the lines of files and of the results in folders, without truncated ones."""
    lines = []
    for file in (file for path in paths for file in files(path)):
        for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict):
                lines.append(line)
    return lines


def known(paths: Paths, out: Path, again: Sequence[str] = ()) -> list[Line]:
    """Returns the committed lines, those kept on this machine and those of this call.

    Args:
      paths: folders and files.
      out: output folder of this call.
      again: jobs whose committed lines are ignored.
    """
    committed = [line for line in read(paths.record) if line.get("job") not in again]
    return [*committed, *read(paths.kept), *read(out)]


def files(path: Path) -> list[Path]:
    """Returns the result files in a folder, or the file itself; an empty list if the path does not exist."""
    if path.is_dir():
        return sorted(path.glob("results*.jsonl"), key=lambda file: (len(file.name), file.name))
    return [path] if path.is_file() else []


def left(job: Job, lines: Sequence[Line], card: str, commit: Facts | None, runs: Path) -> list[Row]:
    """Returns the rows of a job that are still missing on this kind of device.

    A training is done if it finished anywhere. A measurement is done if it was measured on this kind of device, or if
    its whole part was measured on another kind. Failed rows are tried again only at another commit.

    Args:
      job: the job.
      lines: known lines.
      card: kind of device.
      commit: commit of the code that would run.
      runs: folder of finished trainings.
    """
    measured: dict[str, set[str]] = {}
    failed = set()
    for line in lines:
        if line.get("kind") == "result":
            measured.setdefault(line["id"], set()).add(line["device_kind"])
        elif line.get("kind") == "failed" and line.get("commit") == commit and line["device_kind"] == card:
            failed.add(line["id"])
    parts: dict[str, list[set[str]]] = {}
    for row in job.rows:
        parts.setdefault(row.part, []).append(measured.get(row.id, set()))
    complete = {part: bool(set.intersection(*cards)) for part, cards in parts.items()}

    def done(row: Row) -> bool:
        if row.id in failed:
            return True
        if job.trains:
            return row.id in measured or (runs / f"{row.name}.json").exists()
        return card in measured.get(row.id, ()) or complete[row.part]

    return [row for row in job.rows if not done(row)]


def under_way(lines: Sequence[Line]) -> str | None:
    """Returns the id of the last started row, or None if it has ended."""
    last = None
    for line in lines:
        if line.get("kind") == "begun":
            last = line["id"]
        elif line.get("id") == last:
            last = None
    return last
