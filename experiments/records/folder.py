"""Folder of a record, written atomically."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

Facts = dict[str, Any]
"""JSON-serializable values by name, such as ``config.json`` of a record or the settings of a run."""

CONFIG = "config.json"
"""File that marks a folder as a record; written last."""
SETTINGS, DONE, UNFINISHED = "settings.json", "done", ".unfinished"
"""For a resumable body: file of its settings, folder of its finished parts, suffix of its folder."""


class BadInput(ValueError):
    """An error that the user can fix, with a one-line message."""


def require_one_of(name: str, value: str, choices: Collection[str]) -> None:
    """Raises ``BadInput`` unless the value is one of the choices."""
    if value not in choices:
        raise BadInput(f"{name} must be one of {', '.join(choices)}, got {value!r}")


class DryRun(Exception):
    """Raised by a command with ``--dry-run`` once its flags are checked."""

    def __init__(self, command: str, config: object) -> None:
        self.command, self.config = command, config


def default_folder(command: str) -> Path:
    """Returns ``results/COMMAND-YYYYMMDD-HHMMSS`` (UTC), with a number appended if it exists."""
    stamp = f"{command}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    for number in itertools.count(1):
        name = stamp + f"-{number}" * (number > 1)
        if not any((Path("results") / used).exists() for used in (name, f".{name}{UNFINISHED}")):
            break
    return Path("results") / name


@contextlib.contextmanager
def record(out: Path, overwrite: bool = False, settings: Facts | None = None) -> Iterator[Path]:
    """Yields a hidden folder next to ``out`` and renames it to ``out`` at the end; removes it if the body fails.

    Checks that ``out`` can be written before the body runs.

    Args:
      out: folder of the record; missing parents are created.
      overwrite: whether an existing record may be replaced. Anything else is never replaced.
      settings: for a body that can resume from the hidden folder: JSON-serializable settings that must be equal to do
        so. If the body fails after it created the subfolder ``DONE``, the hidden folder is kept.

    Raises:
      BadInput: ``out`` exists and may not be replaced, or cannot be written; the hidden folder has different settings
        or is in use by another process.
    """
    out = Path(os.path.abspath(out))
    _check_replaceable(out, overwrite)
    with _parents(out), _hidden(out, overwrite, settings) as partial:
        try:
            yield partial
            _check_replaceable(out, overwrite)
            _move(partial, out)
        except BaseException as error:
            if settings is None or not (partial / DONE).is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            elif isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt("finished slabs are saved; run the same command to resume") from None
            raise
        # Removed last: until the rename, resuming needs them.
        shutil.rmtree(out / DONE, ignore_errors=True)
        (out / SETTINGS).unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Locks a file or folder for the body; yields False if another process holds the lock.

    The lock ends with the process.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Writes a file atomically."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def require_same(path: Path, settings: Facts) -> None:
    """Writes settings to a new file, or compares them with those of an existing one.

    Raises:
      BadInput: a setting differs.
    """
    settings = json.loads(json.dumps(settings, default=str))
    if not path.exists():
        write_whole(path, json.dumps(settings, indent=1) + "\n")
    saved = json.loads(path.read_text(encoding="utf-8"))
    for name in sorted(saved.keys() | settings.keys()):
        if json.dumps(saved.get(name)) != json.dumps(settings.get(name)):  # as text, NaN equals NaN
            raise BadInput(
                f"{name} must be {saved.get(name)!r} as in the run in {path.parent}, got {settings.get(name)!r}"
            )


def unfinished(command: str, settings: Facts) -> Path | None:
    """Returns the record folder of an interrupted run of the command with equal settings, or None."""
    settings = json.loads(json.dumps(settings, default=str))
    for path in sorted(Path("results").glob(f".{command}-*{UNFINISHED}/{SETTINGS}")):
        with contextlib.suppress(OSError, ValueError):
            if json.loads(path.read_text(encoding="utf-8")) == settings:
                return path.parent.with_name(path.parent.name.removeprefix(".").removesuffix(UNFINISHED))
    return None


def write_config(folder: Path, config: Facts) -> None:
    """Writes ``config.json``, with paths as strings."""
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _writable(out: Path) -> Iterator[None]:
    """Converts ``OSError`` to ``BadInput``."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"--out must be a writable folder, got {out} ({error.strerror})") from None


def _check_replaceable(out: Path, overwrite: bool) -> None:
    with _writable(out):
        if not os.path.lexists(out):
            return
        is_record = out.is_dir() and not out.is_symlink() and ((out / CONFIG).is_file() or not any(out.iterdir()))
    if not is_record:
        raise BadInput(f"--out must be a new folder or a record, got {out}, which is neither")
    if not overwrite:
        raise BadInput(f"--out must be a new folder unless --overwrite is given, got existing {out}")


@contextlib.contextmanager
def _parents(out: Path) -> Iterator[None]:
    """Creates the missing parents of ``out``; if the body fails, removes those that are empty."""
    created: list[Path] = []
    try:
        with _writable(out):
            for path in reversed(out.parents):
                if not path.exists():
                    path.mkdir()
                    created.append(path)
        yield
    except BaseException:
        for path in reversed(created):
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


@contextlib.contextmanager
def _hidden(out: Path, overwrite: bool, settings: Facts | None) -> Iterator[Path]:
    """Yields the folder that will become ``out``: new or, with settings, possibly existing and locked."""
    partial = _sibling(out, "partial") if settings is None else out.parent / f".{out.name}{UNFINISHED}"
    with _writable(out):
        partial.mkdir(exist_ok=settings is not None)
    if settings is None:
        yield partial
        return
    with alone(partial) as locked:
        if not locked:
            raise BadInput(f"--out must not be in use by another process, got {out}")
        if overwrite:
            _empty(partial)
        require_same(partial / SETTINGS, settings)
        yield partial


def _move(partial: Path, out: Path) -> None:
    """Renames ``partial`` to ``out``, which is missing, empty or an old record."""
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
