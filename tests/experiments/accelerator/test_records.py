"""Records of the accelerator: remaining rows, lines, limits of the files, tables, page."""

import json

import pytest

from experiments.accelerator import records, runner, tables
from experiments.accelerator.jobs import FULL, make_job
from experiments.accelerator.paths import Paths
from experiments.records.folder import BadInput
from tests.experiments.accelerator.lines import CARD, OTHER, RATE, ROOT, line


def test_remaining_rows(tmp_path):
    job = make_job("rates", FULL)
    part = [row.id for row in job.rows if row.part == "l1 d=50"]

    def left(*lines, card=CARD, commit=None):
        return {row.id for row in records.left(job, lines, card, commit, tmp_path)}

    everything = {row.id for row in job.rows}
    assert left() == everything
    assert left(line("begun")) == everything
    assert left(line()) == everything - {line()["id"]}
    # A part that is incomplete on another card is measured again on this one, including its baseline.
    assert left(line(), card=OTHER) == everything
    assert left(*(line(id=name) for name in part), card=OTHER) == everything - set(part)
    mixed = [line(id=name, card=card) for name, card in zip(part, [CARD, OTHER] * len(part), strict=False)]
    assert left(*mixed, card="TPU v5e") == everything
    assert left(line("failed"), commit=None) == everything - {line()["id"]}
    assert left(line("failed"), commit="other") == everything
    assert left(line("failed"), card=OTHER) == everything
    trainings = make_job("train", FULL)
    name = trainings.rows[0].name
    (tmp_path / f"{name}.json").write_text("{}")
    assert trainings.rows[0] not in records.left(trainings, [], OTHER, None, tmp_path)
    assert trainings.rows[1] in records.left(trainings, [], OTHER, None, tmp_path)


def test_a_job_is_measured_again_on_request(tmp_path):
    paths, out = Paths(tmp_path), tmp_path / "out"
    paths.record.parent.mkdir(parents=True)
    grid = line(id="grid/default grid/xla")
    paths.record.write_text("".join(json.dumps(entry) + "\n" for entry in (line(), grid)))
    assert records.known(paths, out) == [line(), grid]
    assert records.known(paths, out, ["rates"]) == [grid]
    # Lines of this call count.
    records.Writer((out, paths.kept), {}).write(line(seconds=3.0))
    assert records.known(paths, out, ["rates"]) == [grid, *[line(seconds=3.0)] * 2]


def test_lines_are_atomic_and_files_limited(tmp_path, monkeypatch):
    writer = records.Writer((tmp_path / "a", tmp_path / "b"), {"jax": "0"})
    writer.write({"n": 0})
    for folder in ("a", "b"):
        with (tmp_path / folder / "results.jsonl").open("a") as file:
            file.write('{"n": 99, "to')
    writer.write({"n": 1})
    assert records.read(tmp_path / "a") == records.read(tmp_path / "b") == [{"jax": "0", "n": n} for n in (0, 1)]
    monkeypatch.setattr(records, "FILE_BYTES", 200)
    written = fill(writer)
    with pytest.raises(BadInput, match=r"must hold at most 3 files .* 200 bytes"):
        writer.write({"n": written})
    files = records.files(tmp_path / "a")
    assert len(files) == records.FILES
    assert all(path.stat().st_size < 200 for path in files)
    assert [entry["n"] for entry in records.read(*files)] == list(range(written))
    with pytest.raises(ValueError, match="JSON"):
        writer.write({"n": float("nan")})


def fill(writer):
    """Writes lines until the files are full and returns the number of the line that did not fit."""
    for n in range(2, 1000):
        try:
            writer.write({"n": n})
        except BadInput:
            return n
    raise AssertionError("the files are never full")


def test_results_are_within_the_limits_of_the_transfer():
    assert records.FILES + 1 <= 8
    assert records.FILE_BYTES <= 16 * 2**20
    assert records.FILES * records.FILE_BYTES + runner.LOG_BYTES <= 64 * 2**20


def test_tables(tmp_path):
    lines = [
        line(),
        line(id="rates/l1 d=50/xla", result=RATE | {"engine": "xla", "updates_per_second": [1e11]}),
        line(id="rates/l1 d=50/cuda", card=OTHER, result=RATE | {"engine": "cuda", "updates_per_second": [5e12]}),
        line("failed", "rates/l1 d=50/torch", error="PyTorch is not installed"),
        line(id="probe/ceilings/copy", result={"bytes_per_second": 3e12}),
    ]
    assert tables.rates_by_engine(lines) == {
        (CARD, "l1", 50): {"cuda": 2e12, "xla": 1e11},
        (OTHER, "l1", 50): {"cuda": 5e12},
    }
    text = tables.page(lines)
    assert "### NVIDIA H100 80GB HBM3\n\nJAX 0.11.2; 2026-11-28." in text
    assert "| l1, d = 50 | 2,000 | 100 | 20.00 |" in text
    assert "| copy, read and written | 3 TB/s |" in text
    assert "| rates/l1 d=50/torch | PyTorch is not installed |" in text
    assert tables.page([]) == tables.page([line("failed")]) == tables.NOTHING


def test_the_page_shows_the_committed_results():
    shown = (ROOT / "docs" / "accelerators.md").read_text(encoding="utf-8")
    assert f"<!-- {tables.MARKER} -->\n{tables.page(records.read(Paths().record))}\n<!-- end -->" in shown
