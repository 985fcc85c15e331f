"""Collection of returned results: checks each line and adds it to the records of the repository."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from ...records.folder import BadInput, Facts, write_whole
from .. import records
from ..jobs import Row, Sizes, make_jobs
from ..paths import Paths
from ..records import Line

FIELDS = {"kind": str, "id": str, "job": str, "part": str, "row": str, "device_kind": str, "jax": str, "date": str}


def collect(paths: Paths, sizes: Sizes, folder: Path) -> tuple[list[Line], list[str]]:
    """Adds the results in a folder to the records; returns the new lines, and the errors of invalid ones.

    Collecting the same folder again adds nothing.

    Raises:
      BadInput: the folder has no results.
    """
    files = [*sorted(folder.glob(f"{records.EARLIER}*.jsonl")), *records.files(folder)] if folder.is_dir() else []
    if not files:
        raise BadInput(f"the folder must hold results.jsonl, got {folder}")
    rows = {row.id: row for job in make_jobs(sizes) for row in job.rows}
    known = {_identity(line) for line in records.read(paths.record)}
    new, errors = [], []
    for path in files:
        for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            try:
                line = checked(text, rows, sizes.rehearsal)
            except BadInput as error:
                errors.append(f"{path.name}, line {number}: {error}")
                continue
            if line["kind"] == "begun":
                continue
            record = line["result"].pop("record", None) if line["kind"] == "result" else None
            if record is not None:
                _write_run(paths, rows[line["id"]], record)
            if _identity(line) not in known:
                known.add(_identity(line))
                new.append(line)
    paths.record.parent.mkdir(parents=True, exist_ok=True)
    with paths.record.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in new)
    return new, errors


def checked(text: str, rows: dict[str, Row], rehearsal: bool) -> Line:
    """Parses and checks a line.

    Raises:
      BadInput: the line is truncated, has an unknown row, or holds an invalid value.
    """
    try:
        line = json.loads(text)
    except ValueError:
        raise BadInput(f"line must be JSON, got {text[:60]!r}") from None
    for name, kind in FIELDS.items():
        if not isinstance(line, dict) or not isinstance(line.get(name), kind) or not line[name]:
            got = line.get(name) if isinstance(line, dict) else line
            raise BadInput(f"{name} must be a nonempty string, got {got!r}")
    if line["kind"] not in ("begun", "result", "failed", "stopped"):
        raise BadInput(f"kind must be begun, result, failed or stopped, got {line['kind']!r}")
    if line["id"] not in rows:
        raise BadInput(f"id must be that of a row of the queue, got {line['id']!r}")
    if bool(line.get("rehearsal")) != rehearsal:
        raise BadInput(f"rehearsal must be {rehearsal}, got {not rehearsal}: rehearsals are not recorded")
    if line["kind"] == "result":
        if not _positive(line.get("seconds")):
            raise BadInput(f"seconds must be > 0 and finite, got {line.get('seconds')!r}")
        if not isinstance(line.get("result"), dict):
            raise BadInput(f"result must be an object, got {line.get('result')!r}")
        for name, fits, rule in RULES.get(line["job"], ()):
            if name in line["result"] and not fits(line["result"][name]):
                raise BadInput(f"{name} must be {rule}, got {line['result'][name]!r}")
        for name in REQUIRED.get(line["job"], ()):
            if name not in line["result"]:
                raise BadInput(f"{name} must be in the result, got {', '.join(line['result']) or 'nothing'}")
        if line["job"] == "train":
            _check_run(rows[line["id"]], line["result"])
    return dict(line)


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _rates(values: object) -> bool:
    return isinstance(values, list) and bool(values) and all(map(_positive, values))


RATES, NUMBER = "a list of numbers > 0", "a number > 0"
RULES: dict[str, Sequence[tuple[str, Callable[[object], bool], str]]] = {
    "probe": [
        (name, _positive, NUMBER) for name in ("bytes_per_second", "operations_per_second", "bfloat16", "float32")
    ],
    "rates": [("updates_per_second", _rates, RATES)],
    "grid": [("seconds", _rates, RATES)],
    "grid-many": [("seconds", _rates, RATES)],
    "images": [("images_per_second", _rates, RATES)],
}
REQUIRED = {
    "equal": ("engine",),
    "rates": ("engine", "penalty", "d", "updates_per_second"),
    "grid": ("engine", "seeds"),
    "grid-many": ("engine", "seeds"),
    "images": ("images_per_second",),
    "train": ("run", "record"),
}


def _check_run(row: Row, result: Facts) -> None:
    record, recipe = result["record"], row.recipe
    if recipe is None or result["run"] != row.name:
        raise BadInput(f"run must be {row.name}, got {result['run']!r}")
    if not isinstance(record, dict) or not {"settings", "curves"} <= record.keys():
        raise BadInput("record must hold settings and curves, got " + ", ".join(record)[:60])
    want = json.loads(json.dumps(recipe.settings()))
    if record["settings"] != want:
        raise BadInput(f"settings must be {want}, got {record['settings']}")
    for name in ("test_accuracy_u", "test_accuracy_w", "zeros"):
        value = record.get(name)
        if not (isinstance(value, (int, float)) and 0 <= value <= 1):
            raise BadInput(f"{name} must be in [0, 1], got {value!r}")
    if record["curves"].get("loss") and not all(map(math.isfinite, record["curves"]["loss"])):
        raise BadInput("loss must be finite in every epoch")


def _write_run(paths: Paths, row: Row, record: Facts) -> None:
    """Writes a finished training unless its file exists."""
    path = paths.runs / f"{row.name}.json"
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(record) + "\n")


def _identity(line: Line) -> str:
    """Returns a line as sorted JSON without the record of a training, which is stored separately."""
    result = line.get("result")
    bare = {name: value for name, value in result.items() if name != "record"} if isinstance(result, dict) else result
    return json.dumps(line | {"result": bare}, sort_keys=True)
