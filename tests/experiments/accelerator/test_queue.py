"""Queue of the accelerator: rehearsal, crashes, hangs, imports, command line."""

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jax.experimental import topologies

from experiments.accelerator import cli, estimates, records, rehearsal
from experiments.accelerator.jobs import START, TINY, make_job, make_jobs
from experiments.accelerator.paths import Paths
from experiments.accelerator.runner import Queue
from experiments.data import cifar10
from experiments.records.folder import BadInput, alone
from tests.experiments.accelerator.lines import ABSENT, ROOT, line


@pytest.mark.robustness
def test_a_rehearsal_killed_three_times_loses_nothing_and_repeats_nothing(environment, tmp_path):
    root = tmp_path / "rehearsal"
    paths = Paths(root)
    command = [sys.executable, "-m", "experiments.accelerator", "--rehearse", "--root", str(root)]

    def run_until(begun):
        """Kills the queue as soon as the row has started; waits until all its processes have ended."""
        with (tmp_path / "output").open("ab") as output:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
            while not any(entry["id"] == begun for entry in known()):
                assert process.poll() is None, (tmp_path / "output").read_text()
                time.sleep(0.02)
            process.kill()
            process.wait()
        while others := processes(str(root)):
            time.sleep(0.02)
            assert time.monotonic() < end, others
        assert records.under_way(known()) == begun

    def known():
        return records.read(root / "out-1", root / "out-2")

    end = time.monotonic() + 900
    jobs = make_jobs(TINY)
    first, second = (row.id for row in make_job("train", TINY).rows)
    seen = []

    run_until("grid-many/default grid/kernel")
    # The machine is lost after its results were transferred.
    assert cli_process(environment, *command[3:], "collect", str(root / "out-1")).returncode == 0
    seen += known()
    for folder in (root / "out-1", paths.kept, paths.images):
        shutil.rmtree(folder)

    run_until(second)
    assert {entry["id"] for entry in known() if entry["kind"] == "result"} >= {first}

    run_until("images/tiny/sgd")
    # A truncated line is ignored.
    with (root / "out-2" / "results.jsonl").open("a") as file:
        file.write('{"kind": "result", "id": "images/tiny/sgd", "se')

    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("results.jsonl, line ") == 1
    seen += known()

    begun = [entry["id"] for entry in seen if entry["kind"] == "begun"]
    ended = [entry["id"] for entry in seen if entry["kind"] in ("result", "failed")]
    rows = [row.id for job in jobs for row in job.rows]
    killed = ["grid-many/default grid/kernel", second, "images/tiny/sgd"]
    assert sorted(ended) == sorted(rows)
    assert sorted(begun) == sorted(rows + killed)
    missing = dict.fromkeys((name for name in rows if "torch" in name), "PyTorch is not installed")
    if importlib.util.find_spec("torch"):
        missing = {}
    missing["probe/ceilings/fma floor"] = "LookupError: the floor needs an NVIDIA GPU, got the cpu device"
    assert {entry["id"]: entry["error"] for entry in seen if entry["kind"] == "failed"} == missing

    committed = records.read(paths.record)
    assert sorted(entry["id"] for entry in committed) == sorted(rows)
    assert {path.stem for path in paths.runs.glob("*.json")} == {row.name for row in jobs[5].rows}
    for path in paths.runs.glob("*.json"):
        run = json.loads(path.read_text())
        assert len(run["curves"]["loss"]) == 2
        assert 0 <= run["test_accuracy_u"] <= 1
    assert "| l1, d = 3 |" in paths.page.read_text()
    (device,) = (entry for entry in committed if entry["id"] == "probe/ceilings/device")
    serializes = hasattr(topologies.TopologyDescription, "serialize")  # depends on the version of JAX
    assert len(device["result"]["topology" if serializes else "topology_missing"]) > 20


def processes(word):
    """Returns the command lines that contain a word, except that of this process."""
    matches = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if int(path.parent.name) != os.getpid() and word.encode() in words:
            matches.append(words)
    return matches


def cli_process(environment, *arguments):
    command = [sys.executable, "-m", "experiments.accelerator", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.robustness
def test_all_modules_import_without_the_missing_packages(environment):
    code = """
import importlib, pkgutil, sys
import experiments.accelerator as package
for module in pkgutil.walk_packages(package.__path__, "experiments.accelerator."):
    importlib.import_module(module.name)
import benchmarks.cifar, benchmarks.gpu, benchmarks.peers, benchmarks.rates
import experiments.data.images, experiments.training.rented
"""
    check = f"for name in {ABSENT}:\n    assert name not in sys.modules, name\n"
    subprocess.run([sys.executable, "-c", code + check], cwd=ROOT, env=environment, check=True)
    blocked = subprocess.run([sys.executable, "-c", "import tyro"], cwd=ROOT, env=environment, check=False)
    assert blocked.returncode == 1


BREAKING = """
import os, signal, time
from experiments.accelerator import probe
measure = probe.measure
def broken(name, size):
    if name == "copy":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "products":
        raise ValueError("no product\\nat all")
    if name == "fma floor":
        print("sleeping", flush=True)
        time.sleep(1000)
    return measure(name, size)
probe.measure = broken
"""


@pytest.mark.robustness
def test_a_crash_costs_one_row_and_a_hang_ends_at_the_time_limit(environment, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(estimates, "START", 2 * START)  # the other tests share the cores
    (tmp_path / "site" / "sitecustomize.py").write_text(BREAKING)
    paths = Paths(tmp_path / "root")
    rehearsal.make_images(paths.root / "packed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "FILES", dict(cifar10.FILES))
        queue = Queue(paths, TINY, 1, 600, tmp_path / "out", environment)
    (job, *_) = queue.jobs
    queue.jobs = [dataclasses.replace(job, rows=tuple(dataclasses.replace(row, seconds=0.2) for row in job.rows))]
    queue.run()
    lines = records.read(tmp_path / "out")
    ends = [(entry["row"], entry["kind"], entry.get("error")) for entry in lines if entry["kind"] != "begun"]
    assert ends == [
        ("device", "result", None),
        ("copy", "failed", "ended by SIGSEGV"),
        ("products", "failed", "ValueError: no product"),
    ]
    assert [entry["row"] for entry in lines if entry["kind"] == "begun"] == ["device", "copy", "products", "fma floor"]
    output = capfd.readouterr().out
    assert "probe: ended by SIGSEGV" in output
    assert f"probe: killed at its time limit of {estimates.SLACK * (2 * START + 0.2):.0f} s" in output
    assert processes(str(paths.root)) == []
    assert records.read(paths.kept) == lines
    # Rows that failed are not retried at this commit; rows stopped by the time limit are.
    left = [records.left(job, lines, "cpu", commit, paths.runs) for commit in (queue.commit, "other")]
    assert [[row.name for row in rows] for rows in left] == [["fma floor"], ["copy", "products", "fma floor"]]


@pytest.mark.parametrize(("name", "blamed"), [("train", False), ("rates", True)])
def test_a_training_is_not_blamed_for_programs_compiled_ahead(name, blamed, tmp_path, monkeypatch):
    """The first process crashes in its first row; the second compiles nothing ahead and runs all."""
    job = make_job(name, TINY)
    queue = Queue(Paths(tmp_path), TINY, 2, 1000, tmp_path / "out", os.environ)
    queue.card, attempts = "cpu", []

    def run(job, until, ahead):
        writer = records.Writer((queue.out,), {"commit": queue.commit})
        left = records.left(job, records.read(queue.out), "cpu", queue.commit, tmp_path)
        attempts.append((ahead, len(left)))
        writer.write(line("begun", left[0].id, "cpu") | {"commit": queue.commit})
        if ahead:
            return -11
        for row in left:
            writer.write(line(id=row.id, card="cpu"))
        return 0

    monkeypatch.setattr(queue, "_run_process", run)
    queue._run_job(job)
    assert attempts == [(True, len(job.rows)), (False, len(job.rows) - blamed)]
    failed = [entry["id"] for entry in records.read(queue.out) if entry["kind"] == "failed"]
    assert failed == [job.rows[0].id] * blamed


def test_two_queues_do_not_share_a_folder(tmp_path):
    with alone(tmp_path), pytest.raises(BadInput, match=r"^--out must .*, got "):
        Queue(Paths(tmp_path), TINY, 1, 600, tmp_path, os.environ).run()


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        ("--call 3", "--call must be 1 or 2, got 3"),
        ("--seconds 0", "--seconds must be in (0, 1e6), got 0"),
        ("--seconds nan", "--seconds must be in (0, 1e6), got nan"),
        ("--seconds soon", "argument --seconds: invalid float value: 'soon'"),
        ("--again train", "--again must be one of probe, equal, rates, grid, grid-many, images, got 'train'"),
        ("--root x", "--root must be given only with --rehearse, got x"),
        (
            "job none --out x --until 1",
            "name must be one of probe, equal, rates, grid, grid-many, train, images, got 'none'",
        ),
        ("collect none", "the folder must hold results.jsonl, got none"),
        ("pack --images none", "--images must be a folder that holds data_batch_1.webp, got none"),
        ("pack", "the following arguments are required: --images"),
        ("bake", "argument ACTION: invalid choice: 'bake'"),
        ("--none", "unrecognized arguments: --none"),
    ],
)
def test_bad_input(arguments, want, capsys):
    assert cli.main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{cli.PROGRAM}: {want}")
    assert error.count("\n") == 1


@pytest.mark.robustness
def test_without_an_accelerator_nothing_runs(environment, tmp_path):
    done = cli_process(environment | {"PATH": ""}, "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the device must be a GPU or a TPU, got a CPU" in done.stderr
    assert not (tmp_path / "out").exists()
