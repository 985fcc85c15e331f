"""Two processes on this machine, joined by ``jax.distributed``, find the bits of one."""

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


def start(port, processes, index, file):
    command = [sys.executable, "-m", "tests.sweep.processes", *map(str, (port, processes, index, file))]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_two_processes_find_the_bits_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = [tmp_path / f"{name}.npz" for name in ("alone", "first", "second")]
    running = [start(port, 1, 0, files[0]), start(port, 2, 0, files[1]), start(port, 2, 1, files[2])]
    for process in running:
        shown, _ = process.communicate(timeout=300)
        assert process.returncode == 0, shown
    alone, *others = (np.load(file) for file in files)
    for other in others:
        assert set(other.files) == set(alone.files)
        for name in alone.files:
            assert other[name].tobytes() == alone[name].tobytes(), name
