"""Tests of sweeps over two local processes, joined by ``jax.distributed``."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import rvsmjax as rv
from experiments.cli import main as cli
from tests.sweep.processes import GRID

pytestmark = pytest.mark.optimized
ROOT = Path(__file__).parents[2]


def start(port, processes, index, file):
    command = [sys.executable, "-m", "tests.sweep.processes", *map(str, (port, processes, index, file))]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.slow  # the study by two processes checks the bits of its files
def test_two_processes_give_the_bits_of_one(tmp_path):
    port = free_port()
    ends = [tmp_path / f"{name}.npz" for name in ("first", "second")]
    running = [start(port, 2, index, file) for index, file in enumerate(ends)]
    alone = rv.run_sweep(rv.Grid(**GRID), jax.random.key(1), devices=jax.devices()[:2]).data
    for process in running:
        shown, _ = process.communicate(timeout=300)
        assert process.returncode == 0, shown
    for other in map(np.load, ends):
        assert set(other.files) == set(alone)
        for name, values in alone.items():
            assert other[name].tobytes() == values.tobytes(), name


FLAGS = ["sweep", "--penalty", "l0", "--d", "4", "--k", "2", "--seeds", "700", "--slab", "200", "--quiet"]


def command(out, *more):
    arguments = [sys.executable, "-m", "experiments", *FLAGS, "--out", str(out), *more]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.robustness
def test_a_study_by_two_processes_has_the_files_of_one(tmp_path):
    several = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2"]
    running = [
        command(tmp_path / "both", *several, "--process", "0"),
        command(tmp_path / "nothing", *several, "--process", "1"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "prepare_jax", lambda precision: None)
        assert cli.main([*FLAGS, "--out", str(tmp_path / "alone")]) == 0
    for process in running:
        shown, _ = process.communicate(timeout=300)
        assert process.returncode == 0, shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "both"]
    assert files(tmp_path / "alone" / "data.zarr") == files(tmp_path / "both" / "data.zarr")
    assert (tmp_path / "alone" / "summary.csv").read_text() == (tmp_path / "both" / "summary.csv").read_text()


@pytest.mark.robustness
def test_a_dying_process_stops_the_others_and_the_study_resumes(tmp_path):
    out = tmp_path / "record"
    several = [
        "--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2", "--seeds", "60000", "--slab", "200",
    ]  # fmt: skip
    first, second = (command(out, *several, "--process", str(index)) for index in (0, 1))
    done = tmp_path / ".record.unfinished" / "done"
    while first.poll() is None and len(list(done.glob("[0-9]*"))) < 3:
        time.sleep(0.05)
    second.kill()
    shown, _ = first.communicate(timeout=300)
    second.communicate()
    assert first.returncode == 2, shown
    assert "all 2 processes must " in shown
    assert "run the same command to resume" in shown
    assert not out.exists()
    kept = len(list(done.glob("[0-9]*")))
    assert 3 <= kept < 300, shown
