"""Worker process of one job: runs the remaining rows, writes each result at once."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import datetime
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..records.environment import usable_cores
from ..records.folder import BadInput, Facts
from . import records, sweeps, trainings
from .estimates import SLACK, Estimates
from .jobs import Row, Sizes, make_job
from .paths import NO_DEVICE, Paths
from .records import Line, Writer

if TYPE_CHECKING:
    from ..studies.cifar.recipes import CifarRecipe

AHEAD, THREADS = ("equal", "rates", "grid"), 12
"""Jobs whose programs are compiled before the first row, and maximum number of threads for it."""
LAST = 5.0
"""Seconds of a training reserved for the evaluation after its last epoch."""


def run_job(
    paths: Paths,
    sizes: Sizes,
    name: str,
    out: Path,
    until: float,
    commit: Facts | None,
    again: Sequence[str] = (),
    ahead: bool = True,
) -> None:
    """Runs the remaining rows of a job.

    Args:
      paths: folders and files.
      sizes: sizes of the measurements.
      name: name of the job.
      out: folder of the results.
      until: deadline by ``time.monotonic()``.
      commit: commit of the code.
      again: jobs whose committed lines are ignored.
      ahead: whether to compile the programs of all rows before the first measurement.

    Raises:
      BadInput: no accelerator.
    """
    import jax

    if jax.default_backend() == "cpu" and not sizes.rehearsal:
        raise BadInput(NO_DEVICE)
    card = jax.devices()[0].device_kind
    stamp = {"device_kind": card, "jax": jax.__version__, "commit": commit}
    writer = Writer((out, paths.kept), stamp | ({"rehearsal": True} if sizes.rehearsal else {}))
    job = make_job(name, sizes)
    tried: set[str] = set()
    while True:
        lines = records.known(paths, out, again)
        rows = [row for row in records.left(job, lines, card, commit, paths.runs) if row.id not in tried]
        if job.trains:
            rows = _fitting(rows, Estimates([job, make_job("images", sizes)], lines, card), until)
        if not rows:
            return
        if ahead and not tried and name in AHEAD:
            writer.stamp["ahead_seconds"] = compile_ahead(rows, paths, sizes)
        tried.add(rows[0].id)
        here = [line for line in lines if line.get("device_kind") == card]
        _run_row(writer, paths, sizes, rows if ahead else rows[:1], here, until)


def compile_ahead(rows: Sequence[Row], paths: Paths, sizes: Sizes) -> float:
    """Compiles the programs of rows in threads, by running each row with few steps, and returns the seconds per row.

    Errors are ignored here: they occur again when the row is measured.
    """
    started = time.monotonic()

    def run(row: Row) -> None:
        few = {name: 16 if name == "steps" else 1 for name in ("steps", "repeats") if name in row.settings}
        with contextlib.suppress(Exception):
            _measure(dataclasses.replace(row, settings=row.settings | few), None, paths, sizes, [], 0.0)

    ours = [row for row in rows if not row.name.startswith("torch")]
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(min(THREADS, usable_cores())) as pool:
        warnings.simplefilter("ignore")
        list(pool.map(run, ours))
    seconds = time.monotonic() - started
    print(f"{len(ours)} rows compiled in {seconds:.1f} s", flush=True)
    return seconds / len(rows)


def _fitting(rows: Sequence[Row], estimates: Estimates, until: float) -> list[Row]:
    """Returns the first row that fits into the time left, and the first that could follow it."""
    chosen: list[Row] = []
    free = until - time.monotonic()
    for row in rows:
        if SLACK * estimates.row(row) <= free:
            chosen.append(row)
            free -= estimates.row(row)
        if len(chosen) == 2:
            break
    return chosen


def _run_row(
    writer: Writer, paths: Paths, sizes: Sizes, rows: Sequence[Row], lines: Sequence[Line], until: float
) -> None:
    row, following = rows[0], rows[1].recipe if len(rows) > 1 else None
    now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    fields = {"id": row.id, "job": row.job, "part": row.part, "row": row.name, "date": now}
    writer.write({"kind": "begun"} | fields)
    print(f"{now} {row.id}", flush=True)
    started = time.monotonic()
    messages: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            warnings.filterwarnings("error", message=".*loop runs")  # instead of the measured engine
            result = _measure(row, following, paths, sizes, lines, until)
        messages = sorted({str(w.message)[:300] for w in caught if issubclass(w.category, UserWarning)})
    except sweeps.Missing as error:
        writer.write({"kind": "failed", "error": str(error)} | fields)
    except trainings.TooSlow as error:
        writer.write({"kind": "stopped", "error": str(error), "result": error.result} | fields)
    except Exception as error:
        traceback.print_exc()
        first = (str(error).strip().splitlines() or [""])[0][:300]
        writer.write({"kind": "failed", "error": f"{type(error).__name__}: {first}"} | fields)
    else:
        line = {"kind": "result", "seconds": time.monotonic() - started, "result": result} | fields
        writer.write(line | ({"warnings": messages} if messages else {}))


def _measure(
    row: Row, following: CifarRecipe | None, paths: Paths, sizes: Sizes, lines: Sequence[Line], until: float
) -> Facts:
    if row.job == "probe":
        from . import probe

        return probe.measure(row.name, **row.settings)
    if row.job == "equal":
        return sweeps.beside_cpu(**row.settings)
    if row.job == "rates":
        return sweeps.rate(**row.settings)
    if row.job in ("grid", "grid-many"):
        return sweeps.grid(lines=lines, **row.settings)
    if row.job == "images" and row.name.startswith("torch"):
        return trainings.torch_images_per_second(**row.settings)
    if row.job == "images":
        return trainings.images_per_second(**row.settings)
    if row.recipe is None:
        raise ValueError(f"{row.id} must have a recipe, got none")
    return trainings.train(row.recipe, trainings.data(paths.images, sizes.rehearsal), until - LAST, following)
