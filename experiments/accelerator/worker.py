"""The process of one job: it runs the rows that are left, writes each at once, and ends with whoever started it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import datetime
import os
import signal
import sys
import threading
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
from .places import NO_DEVICE, Places
from .records import Line, Writer

if TYPE_CHECKING:
    from ..studies.cifar.recipes import CifarRecipe

AHEAD, THREADS = ("equal", "rates", "grid"), 12
"""Jobs whose programs are compiled before the first row, and in how many threads at most."""
LAST = 5.0
"""Seconds before the end at which a training must have ended: its last measures come after its last epoch."""


def run_job(
    places: Places,
    sizes: Sizes,
    name: str,
    out: Path,
    until: float,
    commit: Facts | None,
    again: Sequence[str] = (),
    ahead: bool = True,
) -> None:
    """Runs what is left of a job.

    Args:
      places: where things lie.
      sizes: of the queue.
      name: of the job.
      out: folder of the results.
      until: ``time.monotonic()`` at which it is ended.
      commit: of the code.
      again: jobs of which what is committed does not count.
      ahead: whether the programs of all rows are compiled before the first is measured.

    Raises:
      BadInput: there is no accelerator.
    """
    end_with_parent()
    import jax

    if jax.default_backend() == "cpu" and not sizes.rehearsal:
        raise BadInput(NO_DEVICE)
    card = jax.devices()[0].device_kind
    stamp = {"device_kind": card, "jax": jax.__version__, "commit": commit}
    writer = Writer((out, places.kept), stamp | ({"rehearsal": True} if sizes.rehearsal else {}))
    job = make_job(name, sizes)
    tried: set[str] = set()
    while True:
        lines = records.known(places, out, again)
        rows = [row for row in records.left(job, lines, card, commit, places.runs) if row.id not in tried]
        if job.trains:
            rows = _fitting(rows, Estimates([job, make_job("images", sizes)], lines, card), until)
        if not rows:
            return
        if ahead and not tried and name in AHEAD:
            writer.stamp["ahead_seconds"] = compile_ahead(rows, places, sizes)
        tried.add(rows[0].id)
        here = [line for line in lines if line.get("device_kind") == card]
        _run_row(writer, places, sizes, rows if ahead else rows[:1], here, until)


def compile_ahead(rows: Sequence[Row], places: Places, sizes: Sizes) -> float:
    """Compiles the programs of rows in threads and returns the seconds a row; what goes wrong the row itself will say.

    Each row is run with few steps, so that the programs are those that it looks up. Nothing is measured meanwhile.
    """
    started = time.monotonic()

    def run(row: Row) -> None:
        few = {name: 16 if name == "steps" else 1 for name in ("steps", "repeats") if name in row.settings}
        with contextlib.suppress(Exception):
            _measure(dataclasses.replace(row, settings=row.settings | few), None, places, sizes, [], 0.0)

    ours = [row for row in rows if not row.name.startswith("torch")]
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(min(THREADS, usable_cores())) as pool:
        warnings.simplefilter("ignore")
        list(pool.map(run, ours))
    seconds = time.monotonic() - started
    print(f"{len(ours)} rows compiled in {seconds:.1f} s", flush=True)
    return seconds / len(rows)


def _fitting(rows: Sequence[Row], estimates: Estimates, until: float) -> list[Row]:
    """Returns the first row that can end in time, and of those after it the first that could follow."""
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
    writer: Writer, places: Places, sizes: Sizes, rows: Sequence[Row], lines: Sequence[Line], until: float
) -> None:
    row, following = rows[0], rows[1].recipe if len(rows) > 1 else None
    now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    named = {"id": row.id, "job": row.job, "part": row.part, "row": row.name, "date": now}
    writer.write({"kind": "begun"} | named)
    print(f"{now} {row.id}", flush=True)
    started = time.monotonic()
    said: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            warnings.filterwarnings("error", message=".*loop runs")  # in place of the engine that is measured
            result = _measure(row, following, places, sizes, lines, until)
        said = sorted({str(own.message)[:300] for own in caught if issubclass(own.category, UserWarning)})
    except sweeps.Missing as error:
        writer.write({"kind": "failed", "error": str(error)} | named)
    except trainings.CannotEnd as error:
        writer.write({"kind": "stopped", "error": str(error), "result": error.found} | named)
    except Exception as error:
        traceback.print_exc()
        first = (str(error).strip().splitlines() or [""])[0][:300]
        writer.write({"kind": "failed", "error": f"{type(error).__name__}: {first}"} | named)
    else:
        line = {"kind": "result", "seconds": time.monotonic() - started, "result": result} | named
        writer.write(line | ({"warnings": said} if said else {}))


def _measure(
    row: Row, following: CifarRecipe | None, places: Places, sizes: Sizes, lines: Sequence[Line], until: float
) -> Facts:
    if row.job == "probe":
        from . import probe

        return probe.measure(row.name, **row.settings)
    if row.job == "equal":
        return sweeps.beside_cpu(**row.settings)
    if row.job == "rates":
        return sweeps.rate(**row.settings)
    if row.job == "grid":
        return sweeps.grid(**row.settings)
    if row.job == "grid-many":
        return sweeps.grid(lines=lines, **row.settings)
    if row.job == "images" and row.name.startswith("torch"):
        return trainings.torch_images_per_second(**row.settings)
    if row.job == "images":
        return trainings.images_per_second(**row.settings)
    if row.recipe is None:
        raise ValueError(f"{row.id} must have a recipe, got none")
    return trainings.train(row.recipe, trainings.data(places.images, sizes.rehearsal), until - LAST, following)


def end_with_parent() -> None:
    """Ends this process when the other end of its standard input is closed."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # and what it has started
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()
