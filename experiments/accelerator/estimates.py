"""Time estimates of rows from measurements on the same kind of device, and the plan of a rental."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from .jobs import IMAGES, START, Job, Row, epoch_images
from .records import Line

SLACK = 1.15
"""A job starts only if its estimate times this fits into the remaining time; it is also the time limit of a job."""
COMPILING = 30.0
"""Seconds of a training in addition to its epochs: compilation, test images."""
LEAST, MOST = 0.25, 4.0
"""Bounds on the factor by which measured rows scale the estimates of the other rows of a job."""
RENTAL, CALL = 900.0, 600.0
"""Seconds of a rental and of one call."""
MACHINE, TRANSFER = 90.0, 25.0
"""Seconds to start a machine, and to transfer the files of a call."""
RESERVE = 15.0
"""Seconds of a call left for the transfer of the results."""


class Estimates:
    """Estimated seconds of rows on one kind of device.

    Args:
      jobs: the queue.
      lines: lines measured so far.
      card: kind of device.
    """

    def __init__(self, jobs: Sequence[Job], lines: Sequence[Line], card: str) -> None:
        rows = {row.id: row for job in jobs for row in job.rows}
        self.seconds: dict[str, float] = {}
        self.rates: dict[str, float] = {}
        ratios: dict[str, list[float]] = {}
        timed: dict[str, float] = {}
        for line in lines:
            row = rows.get(str(line.get("id")))
            if row is None or line.get("kind") not in ("result", "stopped") or line["device_kind"] != card:
                continue
            recipe, result = row.recipe, line["result"]
            if recipe is not None and row.job == "train" and result.get("seconds_per_epoch"):
                self.rates[recipe.net] = epoch_images(recipe, IMAGES) / result["seconds_per_epoch"]
            elif row.job == "images" and not row.name.startswith("torch"):
                timed[row.settings["net"]] = statistics.median(result["images_per_second"])
            if line["kind"] == "result":
                self.seconds[row.id] = line["seconds"] + line.get("ahead_seconds", 0.0)
                ratios.setdefault(row.job, []).append(self.seconds[row.id] / row.seconds)
        self.rates = timed | self.rates
        self.scales = {job: min(MOST, max(LEAST, statistics.median(values))) for job, values in ratios.items()}

    def row(self, row: Row) -> float:
        """Returns the seconds of a row: as measured, from images per second, or scaled like other rows of its job."""
        if row.id in self.seconds:
            return self.seconds[row.id]
        if row.job == "train" and row.recipe is not None and row.recipe.net in self.rates:
            return COMPILING + row.recipe.epochs * epoch_images(row.recipe, IMAGES) / self.rates[row.recipe.net]
        return row.seconds * self.scales.get(row.job, 1.0)

    def job(self, rows: Sequence[Row]) -> float:
        """Returns the seconds of a process that runs these rows."""
        return START + sum(map(self.row, rows))


def fitting(job: Job, rows: Sequence[Row], estimates: Estimates, seconds: float) -> list[Row]:
    """Returns the rows that fit into a time: of trainings each that fits, of other jobs all or none."""
    if not job.trains:
        return list(rows) if SLACK * estimates.job(rows) <= seconds else []
    chosen: list[Row] = []
    seconds -= START
    for row in rows:
        if SLACK * estimates.row(row) <= seconds:
            chosen.append(row)
            seconds -= estimates.row(row)
    return chosen


@dataclasses.dataclass(frozen=True)
class Planned:
    """Rows planned for a call."""

    call: int
    job: Job
    rows: list[Row]
    seconds: float


def plan_call(
    call: int, queue: Sequence[tuple[Job, list[Row]]], estimates: Estimates, seconds: float
) -> tuple[list[Planned], list[tuple[Job, list[Row]]]]:
    """Returns the rows that one call would run, and the remaining ones; the first call stops before the trainings.

    Args:
      call: 1 or 2.
      queue: jobs with their remaining rows.
      estimates: estimates of the rows.
      seconds: time budget of the queue.
    """
    planned: list[Planned] = []
    rest: list[tuple[Job, list[Row]]] = []
    for i, (job, rows) in enumerate(queue):
        if call == 1 and job.trains:
            rest += queue[i:]
            break
        chosen = fitting(job, rows, estimates, seconds) if rows else []
        if chosen:
            planned.append(Planned(call, job, chosen, estimates.job(chosen)))
            seconds -= planned[-1].seconds
        chosen_ids = {row.id for row in chosen}
        rest.append((job, [row for row in rows if row.id not in chosen_ids]))
    return planned, rest


Rental = tuple[list[Planned], dict[int, float], list[tuple[Job, list[Row]]]]
"""Planned rows of two calls, time limit of each call, remaining rows of each job."""


def plan_rental(queue: Sequence[tuple[Job, list[Row]]], estimates: Estimates, rental: float = RENTAL) -> Rental:
    """Returns the plan of two calls on one machine."""
    planned: list[Planned] = []
    allowed: dict[int, float] = {}
    free = rental - MACHINE
    for call in (1, 2):
        allowed[call] = max(0.0, min(CALL, free - TRANSFER) - RESERVE)
        entries, queue = plan_call(call, queue, estimates, allowed[call])
        planned += entries
        free -= TRANSFER + sum(entry.seconds for entry in entries)
    return planned, allowed, list(queue)
