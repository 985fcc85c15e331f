"""A record: the folder that a run leaves behind, written whole or not at all."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONFIG = "config.json"
"""The file that marks a folder as a record; written last."""


SETTINGS, UNFINISHED = "settings.json", ".unfinished"
"""What a body that goes on must agree with, and the end of its folder's name."""


class BadInput(ValueError):
    """Something the user can mend; its text is one line."""


class DryRun(Exception):
    """A command that was asked for its plan alone has checked its flags, and stops."""

    def __init__(self, command: str, config: Any) -> None:
        self.command, self.config = command, config


def default_folder(command: str) -> Path:
    """Returns ``results/COMMAND-YYYYMMDD-HHMMSS``, in UTC; with a number behind it where that is taken."""
    stamp = f"{command}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    for number in itertools.count(1):
        name = stamp + f"-{number}" * (number > 1)
        if not any((Path("results") / taken).exists() for taken in (name, f".{name}{UNFINISHED}")):
            break
    return Path("results") / name


@contextlib.contextmanager
def record(out: Path, overwrite: bool = False, settings: dict[str, Any] | None = None) -> Iterator[Path]:
    """Yields a hidden folder beside ``out`` and renames it to ``out`` at the end; removes it if the body fails.

    Whatever can be known to fail is found out before the body runs.

    Args:
      out: the record's folder; missing parents are made.
      overwrite: whether a record that is already there may be replaced. Nothing but a record is ever replaced.
      settings: of a body that can go on from what it left in the hidden folder: what must be equal for that, as JSON
        has it. The folder then stays where the body failed after it made a folder ``done`` in it.

    Raises:
      BadInput: ``out`` exists and may not be replaced, or cannot be written; the hidden folder was made with other
        settings, or another process works in it.
    """
    out = Path(os.path.abspath(out))
    _check_replaceable(out, overwrite)
    made: list[Path] = []
    partial: Path | None = None
    with contextlib.ExitStack() as stack:
        try:
            try:
                made = _make_parents(out.parent)
                partial = _sibling(out, "partial") if settings is None else out.parent / f".{out.name}{UNFINISHED}"
                partial.mkdir(exist_ok=settings is not None)
            except OSError as error:
                raise BadInput(f"--out must be a folder that can be written, got {out} ({error.strerror})") from None
            if settings is not None:
                if not stack.enter_context(alone(partial)):
                    partial, made = None, []
                    raise BadInput(f"--out must be a folder that no other process fills, got {out}")
                if overwrite:
                    _empty(partial)
                try:
                    require_same(partial / SETTINGS, settings)
                except BadInput:
                    partial = None
                    raise
            yield partial
            _check_replaceable(out, overwrite)
            (partial / SETTINGS).unlink(missing_ok=True)
            _move(partial, out)
        except BaseException:
            if partial is not None and (settings is None or not (partial / "done").is_dir()):
                shutil.rmtree(partial, ignore_errors=True)
            for folder in reversed(made):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Tells whether no other process holds the folder; holds it until the end of the body, or of the process."""
    place = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(place)


def require_same(path: Path, settings: dict[str, Any]) -> None:
    """Writes settings to a file, or compares them with those that it has.

    Raises:
      BadInput: one of them differs; it is named with both values.
    """
    settings = json.loads(json.dumps(settings, default=str))
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    there = json.loads(path.read_text(encoding="utf-8"))
    for name in sorted(there.keys() | settings.keys()):
        if json.dumps(there.get(name)) != json.dumps(settings.get(name)):  # NaN is NaN here
            raise BadInput(
                f"{name} must be {there.get(name)!r} as in the run in {path.parent}, got {settings.get(name)!r}"
            )


def unfinished(command: str, settings: dict[str, Any]) -> Path | None:
    """Returns the folder that a record of the command with these settings was to have when it was interrupted."""
    settings = json.loads(json.dumps(settings, default=str))
    for path in sorted(Path("results").glob(f".{command}-*{UNFINISHED}/{SETTINGS}")):
        with contextlib.suppress(OSError, ValueError):
            if json.loads(path.read_text(encoding="utf-8")) == settings:
                return path.parent.with_name(path.parent.name.removeprefix(".").removesuffix(UNFINISHED))
    return None


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


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sibling(out: Path, kind: str) -> Path:
    return out.parent / f".{out.name}.{secrets.token_hex(4)}.{kind}"
