"""What is killed at ten random moments ends in the bits of what is left alone."""

import json
import multiprocessing
import time

import numpy as np
import pytest

from tests.experiments.records.killed import EPOCHS, SLABS, sweep, train

pytestmark = pytest.mark.robustness
LIVES, WINDOW = 10, 0.1
"""Times it is killed, at most so many seconds after it has begun: a few epochs, or slabs."""


@pytest.fixture(scope="module")
def context():
    """Processes forked from one that has imported all and started nothing."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.experiments.records.killed"])
    return found


def live_ten_times(context, target, folder, reached):
    """Runs ``target(folder)`` in processes that are killed a little after they have begun.

    Yields after each death, and once more when a last process has run to its end beside one that was left alone, in the
    folder "whole", which compiles for all. ``reached(folder)`` changes as they go on.
    """
    whole = folder.parent / "whole"

    def begin(place, before):
        process = context.Process(target=target, args=(str(place),))
        process.start()
        while process.is_alive() and reached(place) == before:
            time.sleep(0.01)
        return process

    for place in (whole, folder):
        place.mkdir()
    alone = begin(whole, reached(whole))
    print(f"moments from seed {(seed := int(np.random.default_rng().integers(2**32)))}")
    for moment in np.random.default_rng(seed).uniform(0, WINDOW, LIVES):
        life = begin(folder, reached(folder))
        time.sleep(moment)
        life.kill()
        life.join()
        yield "killed"
    last = begin(folder, reached(folder))
    for process in (alone, last):
        process.join()
        assert process.exitcode == 0
    yield "ended"


def test_a_training_killed_at_ten_random_moments(tmp_path, context):
    parts, whole = tmp_path / "parts", tmp_path / "whole"

    def begun(folder):
        return (folder / "begun").exists() and (folder / "begun").stat().st_mtime_ns

    lives = live_ten_times(context, train, parts, begun)
    reached = []
    for _ in range(LIVES):
        next(lives)
        reached.append(len((parts / "metrics.jsonl").read_text().splitlines()))
    assert not (parts / "end").exists(), "the training ended before it was killed ten times"
    assert reached == sorted(reached)
    assert 0 < reached[0] < reached[-1] < EPOCHS
    next(lives)
    assert (parts / "end").read_bytes() == (whole / "end").read_bytes()
    rows = [[json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (parts, whole)]
    assert rows[0] == rows[1]
    assert len(rows[0]) == EPOCHS


def test_a_sweep_killed_at_ten_random_moments(tmp_path, context):
    parts, whole = tmp_path / "parts", tmp_path / "whole"

    def done(folder):
        return len(list((folder / ".record.unfinished" / "done").glob("[0-9]*")))

    lives = live_ten_times(context, sweep, parts, done)
    reached = []
    for _ in range(LIVES):
        next(lives)
        reached.append(done(parts))
    assert not (parts / "record").exists(), "the sweep ended before it was killed ten times"
    assert reached == sorted(reached)
    assert 0 < reached[0] < reached[-1] < SLABS
    next(lives)
    records = parts / "record", whole / "record"
    names = [sorted(str(path.relative_to(f)) for path in (f / "data.zarr").rglob("*")) for f in records]
    assert names[0] == names[1]
    for name in ("summary.csv", *names[0]):
        a, b = (folder / name for folder in records)
        assert a.is_dir() or a.read_bytes() == b.read_bytes(), name
    assert [path.name for path in parts.iterdir()] == ["record"]
