"""Flags common to all commands, and types of flag values whose parse errors name the rule and the value."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_type_hints

from tyro.constructors import PrimitiveConstructorSpec

from ..records.program import PROGRAM

HOW = {
    *("out", "quick", "overwrite", "quiet", "json", "dry_run", "docs", "data_dir", "runs", "minutes"),
    *("coordinator", "processes", "process", "tensorboard"),
}
"""Flags that do not affect results: where to run, where to write, what to print."""


def _spec(
    kind: Callable[[str], Any], rule: str, metavar: str, *, axis: bool = False, absent: str = ""
) -> PrimitiveConstructorSpec[Any]:
    """Returns the parser of one value or of an axis of values; ``absent`` describes the default None in the help."""

    def read_one(text: str) -> Any:
        try:
            return kind(text)
        except (ValueError, KeyError):
            raise ValueError(f"must be {rule}, got {text!r}") from None

    def read(texts: list[str]) -> Any:
        return tuple(map(read_one, texts)) if axis else read_one(texts[0])

    def write(value: Any) -> list[str]:
        if value is None:
            return absent.split()
        return [f"{item:g}" if isinstance(item, float) else str(item) for item in (value if axis else [value])]

    def is_instance(value: object) -> bool:
        return value is None or isinstance(value, tuple) == axis

    name = f"{metavar} [{metavar} ...]" if axis else metavar
    return PrimitiveConstructorSpec("*" if axis else 1, name, read, is_instance, write)


def _below(limit: int) -> Callable[[str], int]:
    return lambda text: range(limit).index(int(text))  # raises ValueError outside the range


_BOOLEANS = {"True": True, "true": True, "False": False, "false": False}

Names = Annotated[tuple[str, ...], _spec(str, "a name", "NAME", axis=True)]
WholeNumbers = Annotated[tuple[int, ...], _spec(int, "a whole number", "INT", axis=True)]
Numbers = Annotated[tuple[float, ...], _spec(float, "a number", "FLOAT", axis=True)]
Booleans = Annotated[tuple[bool, ...], _spec(_BOOLEANS.__getitem__, "True or False", "BOOL", axis=True)]
Rates = Annotated[
    tuple[float, ...] | None, _spec(float, "a number", "FLOAT", axis=True, absent="the largest that the theorem allows")
]
Strengths = Annotated[tuple[float, ...] | None, _spec(float, "a number", "FLOAT", axis=True, absent="the preset's")]
Number = Annotated[float, _spec(float, "a number", "FLOAT")]
Strength = Annotated[float | None, _spec(float, "a number", "FLOAT", absent="the preset's")]
WholeNumber = Annotated[int, _spec(int, "a whole number", "INT")]
Batch = Annotated[int | None, _spec(int, "a whole number", "INT", absent="the preset's")]
Epochs = Annotated[int | None, _spec(int, "a whole number", "INT", absent="the preset's")]
Steps = Annotated[int, _spec(_below(2**31), "a whole number in [0, 2**31)", "INT")]
RootKey = Annotated[int, _spec(_below(2**32), "a whole number in [0, 2**32)", "INT")]
Tolerance = Annotated[float | None, _spec(float, "a number", "FLOAT", absent="1e-6, in float64 1e-12")]
Lanes = Annotated[int | None, _spec(int, "a whole number", "INT", absent="200,000 on CPUs, 4,000,000 elsewhere")]
Folder = Annotated[Path | None, _spec(Path, "a folder", "FOLDER", absent="results/COMMAND-DATE-TIME")]
Folders = Annotated[tuple[Path, ...], _spec(Path, "a folder", "FOLDER", axis=True)]
PageFile = Annotated[Path | None, _spec(Path, "a file", "FILE", absent="see above")]
DataFolder = Annotated[Path | None, _spec(Path, "a folder", "FOLDER", absent="$RVSMJAX_DATA, or a download")]
RunsFolder = Annotated[
    Path | None, _spec(Path, "a folder", "FOLDER", absent="experiments/published_runs of a checkout, else results/runs")
]
LogFolder = Annotated[Path | None, _spec(Path, "a folder", "FOLDER", absent="no logs")]
Minutes = Annotated[float | None, _spec(float, "a number", "MINUTES", absent="no limit")]


class CommonFlags:
    """Flags of every command; a base class of its config.

    Not a dataclass, so help and records list these fields after those of the command.
    """

    if TYPE_CHECKING:  # its subclasses are dataclasses
        __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[object]]]
    key: RootKey = 0
    """Root of all randomness."""
    out: Folder = None
    """Folder of the record; must not exist."""
    overwrite: bool = False
    """Replace an existing record in --out."""
    dry_run: bool = False
    """Check the flags, print size, time and memory, and exit."""
    json: bool = False
    """Print config.json with the record's folder as one JSON object, instead of the report."""
    quiet: bool = False
    """Print only errors."""

    def __init_subclass__(cls) -> None:
        cls.__annotations__ |= get_type_hints(CommonFlags, include_extras=True)


def command_line(command: str, config: Any) -> str:
    """Returns the command line that repeats a run: flags that differ from their defaults, without ``HOW``.

    Args:
      command: name of the command.
      config: its config, as parsed or resolved.
    """
    small = getattr(config, "quick", False)
    default = type(config).small() if small else type(config)()
    default = default.resolved() if hasattr(default, "resolved") else default
    words = [*PROGRAM.split(), command, *["--quick"] * small]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in HOW or value == getattr(default, field.name):
            continue
        words.append(f"--{field.name.replace('_', '-')}")
        words += [] if value is True else map(str, value) if isinstance(value, tuple) else [str(value)]
    return shlex.join(words)
