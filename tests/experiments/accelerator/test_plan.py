"""Plan of a rental: time estimates, rows that fit into the time left."""

import json
import random

import pytest

from experiments.accelerator import cli, estimates
from experiments.accelerator.estimates import Estimates, fitting
from experiments.accelerator.jobs import FULL, START, Job, Row, make_jobs
from experiments.accelerator.paths import Paths
from tests.experiments.accelerator.lines import CARD, OTHER, line


def jobs_of(*seconds, trains=False):
    rows = tuple(Row("rates", "part", str(i), estimate) for i, estimate in enumerate(seconds))
    return Job("rates", rows, trains=trains)


def test_rows_that_do_not_fit_are_not_started():
    initial = Estimates([], [], CARD)
    job = jobs_of(10, 20)
    needed = estimates.SLACK * (START + 30)
    assert fitting(job, job.rows, initial, needed + 1e-6) == list(job.rows)
    assert fitting(job, job.rows, initial, needed - 1e-6) == []
    # Each training is checked by itself, after those before it.
    job = jobs_of(100, 300, 60, 60, trains=True)
    chosen = fitting(job, job.rows, initial, START + 100 + estimates.SLACK * 60 + 1e-6)
    assert [row.name for row in chosen] == ["0", "2"]


def test_the_plan_fits_two_calls_of_ten_minutes(tmp_path):
    planned, allowed, rest = cli.plan(Paths(tmp_path), FULL, None)
    check_plan(planned, allowed)
    first = [entry.job.name for entry in planned if entry.call == 1]
    assert first == ["probe", "equal", "rates", "grid", "grid-many"]
    trained = [row for entry in planned if entry.call == 2 for row in entry.rows]
    assert trained[0].recipe.net == "resnet18"
    assert trained[0].recipe.penalty == "l0"
    assert trained[0].recipe.epochs == 200
    rows = {row.id for job in make_jobs(FULL) for row in job.rows}
    assert rows == {row.id for entry in planned for row in entry.rows} | {row.id for _, left in rest for row in left}


@pytest.mark.parametrize("seed", range(20))
def test_the_plan_fits_for_random_measurements(seed, tmp_path):
    rng = random.Random(seed)
    rows = [row for job in make_jobs(FULL) for row in job.rows]
    lines = []
    for row in rng.sample(rows, rng.randrange(len(rows))):
        result = {"seconds_per_epoch": rng.uniform(0.3, 5), "images_per_second": [rng.uniform(1e4, 1e5)]}
        lines.append(line(id=row.id, seconds=row.seconds * rng.uniform(0.2, 5), result=result))
    paths = Paths(tmp_path)
    paths.record.parent.mkdir(parents=True)
    paths.record.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    planned, allowed, _ = cli.plan(paths, FULL, None)
    check_plan(planned, allowed)
    assert not {measured["id"] for measured in lines} & {row.id for entry in planned for row in entry.rows}


def check_plan(planned, allowed):
    assert all(0 < seconds <= 600 for seconds in allowed.values())
    total = estimates.MACHINE
    for call in (1, 2):
        seconds = sum(entry.seconds for entry in planned if entry.call == call)
        assert seconds <= allowed[call]
        total += estimates.TRANSFER + seconds
    assert total <= 900


def test_estimates_follow_measurements_on_the_same_card():
    jobs = make_jobs(FULL)
    rows = {row.id: row for job in jobs for row in job.rows}
    rate, grid = rows["rates/tl1 d=50/cuda"], rows["grid/default grid/cuda"]
    train = {row.recipe.net: row for row in reversed(jobs[5].rows) if row.part == "paper"}
    none = Estimates(jobs, [line(card=OTHER)], CARD)
    assert [none.row(row) for row in (rate, grid, train["vgg16"])] == [rate.seconds, grid.seconds, 150]
    one = Estimates(jobs, [line(seconds=4.5, ahead_seconds=1.5)], CARD)  # a row of 2 s
    assert one.row(rows["rates/l1 d=50/cuda"]) == 6
    assert one.row(rate) == 3 * rate.seconds
    assert one.row(grid) == grid.seconds
    assert one.job([rate, grid]) == START + 3 * rate.seconds + grid.seconds
    timed = line(id="images/resnet18/sgd", result={"images_per_second": [50_000.0]}, seconds=5.0)
    assert Estimates(jobs, [timed], CARD).row(train["resnet18"]) == estimates.COMPILING + 200
    paced = line("stopped", train["resnet18"].id, result={"seconds_per_epoch": 0.5}, error="too late")
    both = Estimates(jobs, [timed, paced], CARD)
    assert both.row(train["resnet18"]) == estimates.COMPILING + 100
    assert both.row(train["vgg16"]) == 150
    curve = next(row for row in jobs[5].rows if row.part == "curves" and row.recipe.net == "resnet18")
    assert both.row(curve) == estimates.COMPILING + 60 * 45_000 / 100_000


def test_the_plan_is_shown(capsys):
    assert cli.main(["--plan"]) == 0
    output = capsys.readouterr().out
    assert "call 1: " in output
    assert "call 2: " in output
    assert "left for later: " in output
