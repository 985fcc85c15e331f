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
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

Facts = dict[str, Any]
"""What is told by name, as JSON has it: a record's ``config.json``, the settings or the measures of a run."""

CONFIG = "config.json"
"""The file that marks a folder as a record; written last."""
SETTINGS, DONE, UNFINISHED = "settings.json", "done", ".unfinished"
"""What a body that goes on must agree with, the folder of what it has done, and the end of its own folder's name."""


class BadInput(ValueError):
    """Something the user can mend; its text is one line."""


def require_one_of(name: str, value: str, choices: Collection[str]) -> None:
    """Raises ``BadInput`` unless the value is among those there are."""
    if value not in choices:
        raise BadInput(f"{name} must be one of {', '.join(choices)}, got {value!r}")


class DryRun(Exception):
    """A command that was asked for its plan alone has checked its flags, and stops."""

    def __init__(self, command: str, config: object) -> None:
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
def record(out: Path, overwrite: bool = False, settings: Facts | None = None) -> Iterator[Path]:
    """Yields a hidden folder beside ``out`` and renames it to ``out`` at the end; removes it if the body fails.

    Whatever can be known to fail is found out before the body runs.

    Args:
      out: the record's folder; missing parents are made.
      overwrite: whether a record that is already there may be replaced. Nothing but a record is ever replaced.
      settings: of a body that can go on from what it left in the hidden folder: what must be equal for that, as JSON
        has it. The folder then stays where the body failed after it made the folder ``DONE`` in it.

    Raises:
      BadInput: ``out`` exists and may not be replaced, or cannot be written; the hidden folder was made with other
        settings, or another process works in it.
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
                raise KeyboardInterrupt("the slabs before are kept, the same command goes on") from None
            raise
        # Only now: until it is the record, what is done must be known.
        shutil.rmtree(out / DONE, ignore_errors=True)
        (out / SETTINGS).unlink(missing_ok=True)


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


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is there whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def require_same(path: Path, settings: Facts) -> None:
    """Writes settings to a file, or compares them with those that it has.

    Raises:
      BadInput: one of them differs; it is named with both values.
    """
    settings = json.loads(json.dumps(settings, default=str))
    if not path.exists():
        write_whole(path, json.dumps(settings, indent=1) + "\n")
    there = json.loads(path.read_text(encoding="utf-8"))
    for name in sorted(there.keys() | settings.keys()):
        if json.dumps(there.get(name)) != json.dumps(settings.get(name)):  # NaN is NaN here
            raise BadInput(
                f"{name} must be {there.get(name)!r} as in the run in {path.parent}, got {settings.get(name)!r}"
            )


def unfinished(command: str, settings: Facts) -> Path | None:
    """Returns the folder that a record of the command with these settings was to have when it was interrupted."""
    settings = json.loads(json.dumps(settings, default=str))
    for path in sorted(Path("results").glob(f".{command}-*{UNFINISHED}/{SETTINGS}")):
        with contextlib.suppress(OSError, ValueError):
            if json.loads(path.read_text(encoding="utf-8")) == settings:
                return path.parent.with_name(path.parent.name.removeprefix(".").removesuffix(UNFINISHED))
    return None


def write_config(folder: Path, config: Facts) -> None:
    """Writes ``config.json``, paths as text."""
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _writable(out: Path) -> Iterator[None]:
    """Turns what the system says against ``out`` into ``BadInput``."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"--out must be a folder that can be written, got {out} ({error.strerror})") from None


def _check_replaceable(out: Path, overwrite: bool) -> None:
    with _writable(out):
        if not os.path.lexists(out):
            return
        is_record = out.is_dir() and not out.is_symlink() and ((out / CONFIG).is_file() or not any(out.iterdir()))
    if not is_record:
        raise BadInput(f"--out must be a new folder or a record, got {out}, which is neither")
    if not overwrite:
        raise BadInput(f"--out must be a new folder unless --overwrite is given, got {out}, which exists")


@contextlib.contextmanager
def _parents(out: Path) -> Iterator[None]:
    """Makes the missing parents of ``out``; where the body fails, those of them that are empty go again."""
    made: list[Path] = []
    try:
        with _writable(out):
            for path in reversed(out.parents):
                if not path.exists():
                    path.mkdir()
                    made.append(path)
        yield
    except BaseException:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


@contextlib.contextmanager
def _hidden(out: Path, overwrite: bool, settings: Facts | None) -> Iterator[Path]:
    """Yields the folder that is to become ``out``: a new one, or with settings one to go on in, held alone."""
    partial = _sibling(out, "partial") if settings is None else out.parent / f".{out.name}{UNFINISHED}"
    with _writable(out):
        partial.mkdir(exist_ok=settings is not None)
    if settings is None:
        yield partial
        return
    with alone(partial) as held:
        if not held:
            raise BadInput(f"--out must be a folder that no other process fills, got {out}")
        if overwrite:
            _empty(partial)
        require_same(partial / SETTINGS, settings)
        yield partial


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
