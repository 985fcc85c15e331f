"""A training that is killed at ten random moments ends in the bits of one that is left alone."""

import json
import multiprocessing
import time

import numpy as np
import pytest

from tests.experiments.killed import EPOCHS, train

LIVES = 10


@pytest.fixture(scope="module")
def context():
    """Processes forked from one that has imported all and started nothing."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.experiments.killed"])
    return found


def test_killed_at_ten_random_moments(tmp_path, context):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    alone = context.Process(target=train, args=(str(whole),))
    alone.start()

    rng = np.random.default_rng()
    print(f"moments from seed {(seed := int(rng.integers(2**32)))}")
    moments = np.random.default_rng(seed).uniform(0, 0.25, LIVES)
    reached = []
    for moment in moments:
        begun = parts / "begun"
        begun.unlink(missing_ok=True)
        life = context.Process(target=train, args=(str(parts),))
        life.start()
        while life.is_alive() and not begun.exists():
            time.sleep(0.01)
        time.sleep(moment)
        life.kill()
        life.join()
        reached.append(len((parts / "metrics.jsonl").read_text().splitlines()))
    assert not (parts / "end").exists(), "the training ended before it was killed ten times"
    assert reached == sorted(reached)
    assert 0 < reached[0] < reached[-1] < EPOCHS

    last = context.Process(target=train, args=(str(parts),))
    last.start()
    for process in (alone, last):
        process.join()
        assert process.exitcode == 0
    assert (parts / "end").read_bytes() == (whole / "end").read_bytes()
    rows = [[json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (parts, whole)]
    assert rows[0] == rows[1]
    assert len(rows[0]) == EPOCHS
