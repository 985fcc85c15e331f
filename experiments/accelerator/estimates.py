"""How long what is left will take, by what was measured on the same kind of device, and what fits into a call."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from .jobs import IMAGES, START, Job, Row, epoch_images
from .records import Line

SLACK = 1.15
"""A job begins only if so many times its estimate is left; a measurement is ended after that time."""
COMPILING = 30.0
"""Seconds of a training beside its epochs: compiling, the test images."""
LEAST, MOST = 0.25, 4.0
"""Bounds on how far what was measured scales the other rows of a job."""
RENTAL, CALL = 900.0, 600.0
"""Seconds of a rental in all, and of one call."""
MACHINE, TRANSFER = 90.0, 25.0
"""Seconds of a rental that a machine needs to start, and a call to send and fetch files."""
RESERVE = 15.0
"""Seconds of a call that the queue leaves unused, so that what it wrote goes home."""


class Estimates:
    """Seconds of rows on one kind of device.

    Args:
      jobs: the queue.
      lines: what was measured so far.
      card: the kind of device.
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
        self.scales = {job: min(MOST, max(LEAST, statistics.median(found))) for job, found in ratios.items()}

    def row(self, row: Row) -> float:
        """Returns the seconds of a row: its own of last time, by its images, or scaled as the rows of its job were."""
        if row.id in self.seconds:
            return self.seconds[row.id]
        if row.job == "train" and row.recipe is not None and row.recipe.net in self.rates:
            return COMPILING + row.recipe.epochs * epoch_images(row.recipe, IMAGES) / self.rates[row.recipe.net]
        return row.seconds * self.scales.get(row.job, 1.0)

    def job(self, rows: Sequence[Row]) -> float:
        """Returns the seconds of a process that runs these rows."""
        return START + sum(self.row(row) for row in rows)


def beginning(job: Job, rows: Sequence[Row], estimates: Estimates, seconds: float) -> list[Row]:
    """Returns the rows that can end in some seconds: of a training each that fits, else all or none."""
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
    """Rows that would run in a call."""

    call: int
    job: Job
    rows: list[Row]
    seconds: float


def plan_call(
    call: int, queue: Sequence[tuple[Job, list[Row]]], estimates: Estimates, seconds: float
) -> tuple[list[Planned], list[tuple[Job, list[Row]]]]:
    """Returns what one call would run, and what is left after it; the first ends before the trainings.

    Args:
      call: 1 or 2.
      queue: jobs and what is left of each.
      estimates: of the seconds.
      seconds: that the queue has.
    """
    planned: list[Planned] = []
    rest: list[tuple[Job, list[Row]]] = []
    for place, (job, rows) in enumerate(queue):
        if call == 1 and job.trains:
            rest += queue[place:]
            break
        chosen = beginning(job, rows, estimates, seconds) if rows else []
        if chosen:
            planned.append(Planned(call, job, chosen, estimates.job(chosen)))
            seconds -= planned[-1].seconds
        gone = {row.id for row in chosen}
        rest.append((job, [row for row in rows if row.id not in gone]))
    return planned, rest


Rental = tuple[list[Planned], dict[int, float], list[tuple[Job, list[Row]]]]
"""Jobs of two calls, the seconds of each call, what is left of each job."""


def plan_rental(queue: Sequence[tuple[Job, list[Row]]], estimates: Estimates, rental: float = RENTAL) -> Rental:
    """Returns what two calls on one machine would run, the seconds each may take, and what is left after them."""
    planned: list[Planned] = []
    allowed: dict[int, float] = {}
    free = rental - MACHINE
    for call in (1, 2):
        allowed[call] = max(0.0, min(CALL, free - TRANSFER) - RESERVE)
        ours, queue = plan_call(call, queue, estimates, allowed[call])
        planned += ours
        free -= TRANSFER + sum(own.seconds for own in ours)
    return planned, allowed, list(queue)
