"""A record: the folder that a run leaves behind, written whole or not at all."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONFIG = "config.json"
"""The file that marks a folder as a record; written last."""


class BadInput(ValueError):
    """Something the user can mend; its text is one line."""


def default_folder(command: str) -> Path:
    """Returns ``results/COMMAND-YYYYMMDD-HHMMSS``, in UTC."""
    return Path("results") / f"{command}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"


@contextlib.contextmanager
def record(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yields a hidden folder beside ``out`` and renames it to ``out`` at the end; removes it if the body fails.

    Whatever can be known to fail is found out before the body runs.

    Args:
      out: the record's folder; missing parents are made.
      overwrite: whether a record that is already there may be replaced. Nothing but a record is ever replaced.

    Raises:
      BadInput: ``out`` exists and may not be replaced, or cannot be written.
    """
    out = Path(os.path.abspath(out))
    _check_replaceable(out, overwrite)
    made: list[Path] = []
    partial: Path | None = None
    try:
        try:
            made = _make_parents(out.parent)
            partial = _sibling(out, "partial")
            partial.mkdir()
        except OSError as error:
            raise BadInput(f"--out must be a folder that can be written, got {out} ({error.strerror})") from None
        yield partial
        _check_replaceable(out, overwrite)
        _move(partial, out)
    except BaseException:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Writes ``config.json``, paths as text."""
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def _check_replaceable(out: Path, overwrite: bool) -> None:
    try:
        if not os.path.lexists(out):
            return
        is_record = out.is_dir() and not out.is_symlink() and ((out / CONFIG).is_file() or not any(out.iterdir()))
    except OSError as error:
        raise BadInput(f"--out must be a folder that can be written, got {out} ({error.strerror})") from None
    if not is_record:
        raise BadInput(f"--out must be a new folder or a record, got {out}, which is neither")
    if not overwrite:
        raise BadInput(f"--out must be a new folder unless --overwrite is given, got {out}, which exists")


def _make_parents(folder: Path) -> list[Path]:
    """Makes ``folder`` with its parents and returns those that were missing, outermost first."""
    missing = [path for path in [*reversed(folder.parents), folder] if not path.exists()]
    made = []
    try:
        for path in missing:
            path.mkdir()
            made.append(path)
    except OSError:
        for path in reversed(made):
            path.rmdir()
        raise
    return missing


def _move(partial: Path, out: Path) -> None:
    """Puts ``partial`` in the place of ``out``, which is either missing, empty or an old record."""
    if not out.exists():
        partial.rename(out)
        return
    old = _sibling(out, "old")
    out.rename(old)
    try:
        partial.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sibling(out: Path, kind: str) -> Path:
    return out.parent / f".{out.name}.{secrets.token_hex(4)}.{kind}"
