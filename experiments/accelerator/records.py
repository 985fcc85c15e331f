"""Results as lines of JSON: each is on the disk before the next is begun, and is known again after any end.

A line has a ``kind``: ``begun`` (a row is under way), ``result``, ``failed`` (an error, or the signal that ended the
process) or ``stopped`` (a training that could not have ended in time).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..records.folder import BadInput, Facts
from .jobs import Job, Row
from .places import Places

FILE_BYTES, FILES = 15 * 2**20, 3
"""Of the results that go home: fewer and smaller than may be brought back."""
EARLIER = "earlier-"
"""Before the names of the results that an earlier call on the same machine wrote; they go home again."""
Line = dict[str, Any]


class Writer:
    """Appends lines to the results in some folders, the first of which goes home.

    Args:
      folders: each holds results.jsonl, results-2.jsonl, ...
      stamp: fields that every line has.
    """

    def __init__(self, folders: Iterable[Path], stamp: Line) -> None:
        self.folders, self.stamp = tuple(folders), stamp
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, line: Line) -> None:
        """Writes a line, in one piece, through to the disk.

        Raises:
          BadInput: the files that may be brought back are full.
        """
        data = (json.dumps(self.stamp | line, ensure_ascii=False, allow_nan=False) + "\n").encode()
        for folder in self.folders:
            place = os.open(_file(folder, len(data)), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                size = os.fstat(place).st_size
                torn = bool(size) and os.pread(place, 1, size - 1) != b"\n"
                os.write(place, b"\n" * torn + data)
                os.fsync(place)
            finally:
                os.close(place)


def _file(folder: Path, more: int) -> Path:
    for number in range(1, FILES + 1):
        path = folder / ("results.jsonl" if number == 1 else f"results-{number}.jsonl")
        if not path.exists() or path.stat().st_size + more < FILE_BYTES:
            return path
    raise BadInput(f"{folder} must hold at most {FILES} files of results of {FILE_BYTES:,} bytes, got another line")


def read(*places: Path) -> list[Line]:
    """Returns the lines of files, and of the results in folders; one that was cut off is left out."""
    lines = []
    for path in (path for place in places for path in files(place)):
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict):
                lines.append(line)
    return lines


def known(places: Places, out: Path, again: Sequence[str] = ()) -> list[Line]:
    """Returns the committed lines, those kept on this machine and those of this call.

    Args:
      places: where they lie.
      out: folder of this call.
      again: jobs of which what is committed does not count.
    """
    committed = [line for line in read(places.record) if line.get("job") not in again]
    return [*committed, *read(places.kept), *read(out)]


def files(place: Path) -> list[Path]:
    """Returns a file itself, or the results in a folder; nothing where there is none."""
    if place.is_dir():
        return sorted(place.glob("results*.jsonl"), key=lambda path: (len(path.name), path.name))
    return [place] if place.is_file() else []


def left(job: Job, lines: Sequence[Line], card: str, commit: Facts | None, runs: Path) -> list[Row]:
    """Returns the rows of a job that are still to be had on this kind of device.

    A training counts once it has ended anywhere. A measurement counts on its kind of device, and on another where all
    of its part was had there. What failed is tried again at another commit.

    Args:
      job: the job.
      lines: all that is known.
      card: the kind of device.
      commit: of the code that would run.
      runs: folder of finished trainings.
    """
    had: dict[str, set[str]] = {}
    failed = set()
    for line in lines:
        if line.get("kind") == "result":
            had.setdefault(line["id"], set()).add(line["device_kind"])
        elif line.get("kind") == "failed" and line.get("commit") == commit and line["device_kind"] == card:
            failed.add(line["id"])
    parts: dict[str, list[set[str]]] = {}
    for row in job.rows:
        parts.setdefault(row.part, []).append(had.get(row.id, set()))
    whole = {part: bool(set.intersection(*cards)) for part, cards in parts.items()}

    def done(row: Row) -> bool:
        if row.id in failed:
            return True
        if job.trains:
            return row.id in had or (runs / f"{row.name}.json").exists()
        return card in had.get(row.id, ()) or whole[row.part]

    return [row for row in job.rows if not done(row)]


def under_way(lines: Sequence[Line]) -> str | None:
    """Returns the id of the row that was begun last, unless it has ended."""
    last = None
    for line in lines:
        if line.get("kind") == "begun":
            last = line["id"]
        elif line.get("id") == last:
            last = None
    return last
