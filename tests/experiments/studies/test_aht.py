"""Adaptive hard thresholding: tiles against the library's chain, starts, rates, record."""

import functools
import json

import jax
import numpy as np
import pandas as pd
import pytest

from experiments.cli import main as cli
from experiments.studies.aht import report as aht_report
from experiments.studies.aht import simulate as aht_runs
from experiments.studies.aht.cells import Cell, overlap, possible
from experiments.studies.aht.config import AhtConfig, cells
from experiments.studies.aht.run import run_lanes

CELLS = [Cell(9, s, k, start, False) for start in aht_runs.STARTS for s, k in ((1, 2), (2, 1), (4, 20), (5, 3))]
CELLS = [cell for cell in CELLS if possible(cell.start, cell.s, cell.d)]


def drawn(seeds=6, dtype="float64"):
    return aht_runs.draw(jax.random.key(4), np.arange(seeds), CELLS, 9, dtype)


@pytest.mark.parametrize("normalize", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_tile_equals_the_chain_on_every_lane(x64, normalize):
    lanes = drawn(3)
    numbers = {"learning_rate": 0.4, "tol": 1e-12, "max_steps": 60, "normalize": normalize}
    tile = jax.jit(functools.partial(aht_runs.run_tile, **numbers))(lanes)
    assert (tile.end == aht_runs.CAP).sum() > 10  # compared before convergence
    single = jax.jit(jax.vmap(functools.partial(aht_runs.replay, learning_rate=0.4, normalize=normalize)))
    chain = single(lanes, steps=tile.steps)
    # At k = 1 rounding decides when an opposite start leaves the line through w*.
    stable = np.array([cell.k > 1 or cell.start != "opposite" for cell in CELLS for _ in range(3)])
    assert np.array_equal((tile.w == 0)[stable], (chain == 0)[stable])
    assert np.abs(tile.w - chain)[stable].max() < 1e-12


def test_lanes_do_not_depend_on_their_tile(x64):
    lanes = drawn(2)
    run = jax.jit(functools.partial(aht_runs.run_tile, learning_rate=0.4, tol=1e-8, max_steps=900, normalize=False))
    whole = run(lanes)
    parts = [run(aht_runs.Lanes(*(part[i::3] for part in lanes))) for i in range(3)]
    for i, part in enumerate(parts):
        assert np.array_equal(part.end, whole.end[i::3])
        assert np.array_equal(part.support_steps, whole.support_steps[i::3])


def test_starts_match_their_names(x64):
    lanes = drawn()
    meets = np.asarray(aht_runs.meets_condition(lanes.w0, lanes.w_star)).reshape(len(CELLS), -1)
    shared = ((lanes.w0 != 0) & (lanes.w_star != 0)).sum(1).reshape(len(CELLS), -1)
    cosine = np.sum(lanes.w0 * lanes.w_star, 1) / np.linalg.norm(lanes.w0, axis=1)
    cosine = cosine.reshape(len(CELLS), -1)
    assert np.allclose(np.linalg.norm(lanes.w_star, axis=1), 1)
    assert np.array_equal((lanes.w_star != 0).sum(1), lanes.s)
    assert np.array_equal((lanes.w0 != 0).sum(1), lanes.s)
    for i, cell in enumerate(CELLS):
        not_opposite = cell.s > 1 or cosine[i] > 0
        expected = {"none": False, "opposite": False, "same": not_opposite}.get(cell.start, True)
        assert (meets[i] == expected).all(), cell
        assert (shared[i] == overlap(cell.start, cell.s)).all()
        if cell.start == "near":
            assert (np.abs(np.arccos(-cosine[i]) - 0.055) <= 0.0451).all()
    ties = np.abs(lanes.w0.reshape(len(CELLS), -1, 9)[[cell.start == "ties" for cell in CELLS]])
    assert all(np.allclose(row[row > 0], row.max()) for row in ties.reshape(-1, 9))


def test_a_seed_is_the_same_problem_in_every_grid(x64):
    whole = drawn()
    one = aht_runs.draw(jax.random.key(4), np.array([5]), CELLS[3:4], 9, "float64")
    assert np.array_equal(one.w_star[0], whole.w_star[3 * 6 + 5])
    assert np.array_equal(one.w0[0], whole.w0[3 * 6 + 5])


def test_impossible_starts_are_skipped():
    grid = list(cells(AhtConfig(d=(6,), s=(1, 4), k=(2,))))
    assert {(cell.start, cell.s) for cell in grid} == {
        *(("same", s) for s in (1, 4)),
        *(("opposite", s) for s in (1, 4)),
        *((start, 4) for start in ("half", "ties", "near")),
        ("none", 1),
    }


@pytest.mark.parametrize(
    ("hits", "of", "interval"), [(10, 10, (0.7225, 1)), (0, 10, (0, 0.2775)), (7, 20, (0.1812, 0.5671)), (0, 0, (0, 1))]
)
def test_intervals_match_printed_tables(hits, of, interval):
    assert aht_report.wilson(hits, of) == pytest.approx(interval, abs=2e-4)


def test_report_shows_a_counterexample(x64):
    config = AhtConfig(d=(6,), s=(2,), k=(20,), start=("near",), seeds=3, max_steps=50, tol=1e-10)
    lanes = run_lanes(config)
    assert (lanes.end == aht_runs.CAP).all()
    assert np.allclose(lanes.replayed, lanes.distance, atol=1e-12)
    text = aht_report._broken(lanes)
    assert "3 lanes meet the condition and did not recover (0 stationary elsewhere, 3 step cap)" in text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("aht") / "record"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "prepare_jax", lambda precision: None)
        assert cli.main(["aht", "--quick", "--quiet", "--out", str(out)]) == 0
    return out


def test_record_is_whole(folder, count_colors, report_files):
    names = {path.name for path in folder.iterdir()}
    assert names == {*report_files, "summary.csv", "lanes.csv.gz", "support.png", "support.svg"}
    config = json.loads((folder / "config.json").read_text())
    assert config["config"]["tol"] == 1e-10
    assert config["lanes"] == len(pd.read_csv(folder / "lanes.csv.gz")) == 400
    assert count_colors(folder / "support.png")[1] > 50


def test_theorem_2_holds_in_every_lane_of_the_record(folder):
    summary = pd.read_csv(folder / "summary.csv")
    holds = summary[summary.meets]
    assert (holds.recovered == holds.lanes).all()
    assert holds.lanes.sum() > 200
    apart = summary[summary.start == "none"]
    assert (apart.recovered == apart.lanes).all()
    assert not summary[(summary.start == "opposite") & (summary.k > 1)].recovered.any()
    assert "No counterexample" in (folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--d 0", ["--d", "0"]),
        ("--s 4 4", ["--s", "distinct"]),
        ("--s 9 --d 5", ["--s", "room", "9"]),
        ("--start same up", ["--start", "up"]),
        ("--learning-rate 0", ["--learning-rate", "0"]),
        ("--tol nan", ["--tol", "nan"]),
        ("--max-steps 0", ["--max-steps", "0"]),
        ("--seeds 0", ["--seeds", "0"]),
    ],
)
def test_bad_input_is_one_line(flags, words, refused):
    error = refused("aht", flags)
    assert all(word in error for word in words), error
