"""Jobs killed at ten random moments give the same bits as uninterrupted ones."""

import json
import multiprocessing
import time

import numpy as np
import pytest

from tests.experiments.records.killed import EPOCHS, SLABS, sweep, train

pytestmark = pytest.mark.robustness
KILLS, WINDOW = 10, 0.05
"""Number of kills, and maximum seconds from the first progress to a kill: a few epochs or slabs."""


@pytest.fixture(scope="module")
def context():
    """Context of processes forked from one with all imports."""
    forkserver = multiprocessing.get_context("forkserver")
    lazy = ["experiments.studies.sweep.run", "experiments.one_layer.output", "zarr"]
    forkserver.set_forkserver_preload(["tests.experiments.records.killed", *lazy])
    return forkserver


def kill_and_resume(context, target, folder, progress):
    """Runs ``target(folder)`` in processes that are killed shortly after their first progress, then to its end.

    Yields after each kill, and at the end of the last process and of an uninterrupted one in the folder "whole", which
    compiles for all. ``progress(folder)`` returns a value that changes with progress.
    """
    whole = folder.parent / "whole"

    def start(job, before):
        process = context.Process(target=target, args=(str(job),))
        process.start()
        while process.is_alive() and progress(job) == before:
            time.sleep(0.01)
        return process

    for job in (whole, folder):
        job.mkdir()
    uninterrupted = start(whole, progress(whole))
    print(f"moments from seed {(seed := int(np.random.default_rng().integers(2**32)))}")
    for moment in np.random.default_rng(seed).uniform(0, WINDOW, KILLS):
        process = start(folder, progress(folder))
        time.sleep(moment)
        process.kill()
        process.join()
        yield "killed"
    last = start(folder, progress(folder))
    for process in (uninterrupted, last):
        process.join()
        assert process.exitcode == 0
    yield "ended"


def test_a_training_killed_at_ten_random_moments(tmp_path, context):
    parts, whole = tmp_path / "parts", tmp_path / "whole"

    def progress(folder):
        return (folder / "epoch").exists() and (folder / "epoch").stat().st_mtime_ns

    steps = kill_and_resume(context, train, parts, progress)
    reached = []
    for _ in range(KILLS):
        next(steps)
        reached.append(len((parts / "metrics.jsonl").read_text().splitlines()))
    assert not (parts / "end").exists(), "the training ended before it was killed ten times"
    assert reached == sorted(reached)
    assert 0 < reached[0] < reached[-1] < EPOCHS
    next(steps)
    assert (parts / "end").read_bytes() == (whole / "end").read_bytes()
    rows = [[json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (parts, whole)]
    assert rows[0] == rows[1]
    assert len(rows[0]) == EPOCHS


def test_a_sweep_killed_at_ten_random_moments(tmp_path, context):
    parts, whole = tmp_path / "parts", tmp_path / "whole"

    def done(folder):
        return len(list((folder / ".record.unfinished" / "done").glob("[0-9]*")))

    steps = kill_and_resume(context, sweep, parts, done)
    reached = []
    for _ in range(KILLS):
        next(steps)
        reached.append(done(parts))
    assert not (parts / "record").exists(), "the sweep ended before it was killed ten times"
    assert reached == sorted(reached)
    assert 0 < reached[0] < reached[-1] < SLABS
    next(steps)
    records = parts / "record", whole / "record"
    names = [sorted(str(path.relative_to(f)) for path in (f / "data.zarr").rglob("*")) for f in records]
    assert names[0] == names[1]
    for name in ("summary.csv", *names[0]):
        a, b = (folder / name for folder in records)
        assert a.is_dir() or a.read_bytes() == b.read_bytes(), name
    assert [path.name for path in parts.iterdir()] == ["record"]
