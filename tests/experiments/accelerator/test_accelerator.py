"""Rented minutes: what cannot end does not begin, what ended is not run again, and nothing is lost on the way."""

import dataclasses
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from jax.experimental import topologies

from experiments.accelerator import cli, estimates, records, rehearsal, runner, tables
from experiments.accelerator.estimates import Estimates, beginning
from experiments.accelerator.jobs import FULL, START, TINY, Job, Row, make_job, make_jobs
from experiments.accelerator.places import Places
from experiments.accelerator.runner import Queue
from experiments.accelerator.transfer import collect, mosaics, pack
from experiments.data import cifar10
from experiments.records.folder import BadInput

ROOT = Path(__file__).parents[3]
CARD, OTHER = "NVIDIA H100 80GB HBM3", "NVIDIA H200"
ABSENT = ("tyro", "zarr", "pooch", "platformdirs")
"""What such an image lacks."""
BLOCK = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def line(kind="result", id="rates/l1 d=50/cuda", card=CARD, **fields):
    job, part, row = id.split("/", 2)
    own = {"kind": kind, "id": id, "job": job, "part": part, "row": row, "device_kind": card, "jax": "0.11.2"}
    own |= {"date": "2026-11-28T12:00:00Z", "commit": None}
    if kind == "result":
        own |= {"seconds": 2.0, "result": RATE | {"engine": row}}
    elif kind == "failed":
        own |= {"error": "it broke"}
    return own | fields


RATE = {"penalty": "l1", "d": 50, "updates_per_second": [1e12, 2e12, 3e12]}


@pytest.fixture
def environment(tmp_path):
    """Processes that this makes find none of the packages that such an image lacks."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BLOCK)
    return os.environ | {"PYTHONPATH": f"{folder}:{ROOT}", "JAX_PLATFORMS": "cpu"}


# The whole of it


def test_a_rehearsal_killed_three_times_loses_nothing_and_runs_nothing_twice(environment, tmp_path):
    root = tmp_path / "rehearsal"
    places = Places(root)
    command = [sys.executable, "-m", "experiments.accelerator", "--rehearse", "--root", str(root)]

    def run_until(begun):
        """Kills the queue as soon as the row has begun; its processes end with it, and the row is not had."""
        with (tmp_path / "said").open("ab") as said:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)
            while not any(own["id"] == begun for own in known()):
                assert process.poll() is None, (tmp_path / "said").read_text()
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
    # The machine is lost; what it wrote goes home.
    assert cli_process(environment, *command[3:], "collect", str(root / "out-1")).returncode == 0
    seen += known()
    for folder in (root / "out-1", places.kept, places.images):
        shutil.rmtree(folder)

    run_until(second)
    assert {own["id"] for own in known() if own["kind"] == "result"} >= {first}

    run_until("images/tiny/sgd")
    # A line that is cut off is none.
    with (root / "out-2" / "results.jsonl").open("a") as file:
        file.write('{"kind": "result", "id": "images/tiny/sgd", "se')

    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("results.jsonl, line ") == 1
    seen += known()

    begun = [own["id"] for own in seen if own["kind"] == "begun"]
    ended = [own["id"] for own in seen if own["kind"] in ("result", "failed")]
    rows = [row.id for job in jobs for row in job.rows]
    killed = ["grid-many/default grid/kernel", second, "images/tiny/sgd"]
    assert sorted(ended) == sorted(rows)
    assert sorted(begun) == sorted(rows + killed)
    missing = dict.fromkeys((name for name in rows if "torch" in name), "PyTorch is not installed")
    if importlib.util.find_spec("torch"):
        missing = {}
    missing["probe/ceilings/fma floor"] = "LookupError: the floor needs an NVIDIA GPU, got the cpu device"
    assert {own["id"]: own["error"] for own in seen if own["kind"] == "failed"} == missing

    committed = records.read(places.record)
    assert sorted(own["id"] for own in committed) == sorted(rows)
    assert {path.stem for path in places.runs.glob("*.json")} == {row.name for row in jobs[5].rows}
    for path in places.runs.glob("*.json"):
        run = json.loads(path.read_text())
        assert len(run["curves"]["loss"]) == 2
        assert 0 <= run["test_accuracy_u"] <= 1
    assert "| l1, d = 3 |" in places.page.read_text()
    (device,) = (own for own in committed if own["id"] == "probe/ceilings/device")
    known = hasattr(topologies.TopologyDescription, "serialize")  # by this version of JAX
    assert len(device["result"]["topology" if known else "topology_missing"]) > 20


def processes(word):
    """Command lines of the processes that have a word in them, this one's apart."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if int(path.parent.name) != os.getpid() and word.encode() in words:
            found.append(words)
    return found


def cli_process(environment, *arguments):
    command = [sys.executable, "-m", "experiments.accelerator", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_all_of_it_is_imported_without_what_such_an_image_lacks(environment):
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
    wrong = subprocess.run([sys.executable, "-c", "import tyro"], cwd=ROOT, env=environment, check=False)
    assert wrong.returncode == 1


# The queue on the machine

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


def test_a_crash_costs_its_row_and_what_hangs_is_ended_at_its_box(environment, tmp_path, capfd):
    (tmp_path / "site" / "sitecustomize.py").write_text(BREAKING)
    places = Places(tmp_path / "root")
    rehearsal.make_images(places.root / "packed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "FILES", dict(cifar10.FILES))
        queue = Queue(places, TINY, 1, 600, tmp_path / "out", environment)
    (job, *_) = queue.jobs
    queue.jobs = [dataclasses.replace(job, rows=tuple(dataclasses.replace(row, seconds=0.2) for row in job.rows))]
    queue.run()
    lines = records.read(tmp_path / "out")
    ends = [(own["row"], own["kind"], own.get("error")) for own in lines if own["kind"] != "begun"]
    assert ends == [
        ("device", "result", None),
        ("copy", "failed", "ended by SIGSEGV"),
        ("products", "failed", "ValueError: no product"),
    ]
    assert [own["row"] for own in lines if own["kind"] == "begun"] == ["device", "copy", "products", "fma floor"]
    said = capfd.readouterr().out
    assert "probe: ended by SIGSEGV" in said
    assert f"probe: ended at its box of {estimates.SLACK * (START + 0.2):.0f} s" in said
    assert processes(str(places.root)) == []
    assert records.read(places.kept) == lines
    # What failed is not tried again at this commit; what was ended at its box is.
    left = [records.left(job, lines, "cpu", commit, places.runs) for commit in (queue.commit, "other")]
    assert [[row.name for row in rows] for rows in left] == [["fma floor"], ["copy", "products", "fma floor"]]


@pytest.mark.parametrize(("name", "blamed"), [("train", False), ("rates", True)])
def test_a_training_is_not_blamed_for_what_was_compiled_beside_it(name, blamed, tmp_path, monkeypatch):
    """The first process crashes in its first row, the second, which compiles nothing ahead, runs all."""
    job = make_job(name, TINY)
    queue = Queue(Places(tmp_path), TINY, 2, 1000, tmp_path / "out", os.environ)
    queue.card, ran = "cpu", []

    def run(job, until, ahead):
        writer = records.Writer((queue.out,), {"commit": queue.commit})
        left = records.left(job, records.read(queue.out), "cpu", queue.commit, tmp_path)
        ran.append((ahead, len(left)))
        writer.write(line("begun", left[0].id, "cpu") | {"commit": queue.commit})
        if ahead:
            return -11
        for row in left:
            writer.write(line(id=row.id, card="cpu"))
        return 0

    monkeypatch.setattr(queue, "_run", run)
    queue._work_through(job)
    assert ran == [(True, len(job.rows)), (False, len(job.rows) - blamed)]
    failed = [own["id"] for own in records.read(queue.out) if own["kind"] == "failed"]
    assert failed == [job.rows[0].id] * blamed


def test_two_queues_do_not_share_a_folder(tmp_path):
    from experiments.records.folder import alone

    with alone(tmp_path), pytest.raises(BadInput, match=r"^--out must be a folder that no other queue fills, got "):
        Queue(Places(tmp_path), TINY, 1, 600, tmp_path, os.environ).run()


# Time


def jobs_of(*seconds, trains=False):
    rows = tuple(Row("rates", "part", str(place), own) for place, own in enumerate(seconds))
    return Job("rates", rows, trains=trains)


def test_what_cannot_end_does_not_begin():
    known = Estimates([], [], CARD)
    job = jobs_of(10, 20)
    needed = estimates.SLACK * (START + 30)
    assert beginning(job, job.rows, known, needed + 1e-6) == list(job.rows)
    assert beginning(job, job.rows, known, needed - 1e-6) == []
    # Of trainings each is asked for itself, after those before it.
    job = jobs_of(100, 300, 60, 60, trains=True)
    chosen = beginning(job, job.rows, known, START + 100 + estimates.SLACK * 60 + 1e-6)
    assert [row.name for row in chosen] == ["0", "2"]


def test_the_plan_fits_two_calls_of_ten_minutes(tmp_path):
    planned, allowed, rest = cli.plan(Places(tmp_path), FULL, None)
    check_plan(planned, allowed)
    first = [own.job.name for own in planned if own.call == 1]
    assert first == ["probe", "equal", "rates", "grid", "grid-many"]
    trained = [row for own in planned if own.call == 2 for row in own.rows]
    assert trained[0].recipe.net == "resnet18"
    assert trained[0].recipe.penalty == "l0"
    assert trained[0].recipe.epochs == 200
    rows = {row.id for job in make_jobs(FULL) for row in job.rows}
    assert rows == {row.id for own in planned for row in own.rows} | {row.id for _, left in rest for row in left}


@pytest.mark.parametrize("seed", range(20))
def test_the_plan_fits_whatever_was_measured(seed, tmp_path):
    rng = random.Random(seed)
    rows = [row for job in make_jobs(FULL) for row in job.rows]
    lines = []
    for row in rng.sample(rows, rng.randrange(len(rows))):
        result = {"seconds_per_epoch": rng.uniform(0.3, 5), "images_per_second": [rng.uniform(1e4, 1e5)]}
        lines.append(line(id=row.id, seconds=row.seconds * rng.uniform(0.2, 5), result=result))
    places = Places(tmp_path)
    places.record.parent.mkdir(parents=True)
    places.record.write_text("".join(json.dumps(own) + "\n" for own in lines))
    planned, allowed, _ = cli.plan(places, FULL, None)
    check_plan(planned, allowed)
    assert not {own["id"] for own in lines} & {row.id for own in planned for row in own.rows}


def check_plan(planned, allowed):
    assert all(0 < seconds <= 600 for seconds in allowed.values())
    total = estimates.MACHINE
    for call in (1, 2):
        own = sum(entry.seconds for entry in planned if entry.call == call)
        assert own <= allowed[call]
        total += estimates.TRANSFER + own
    assert total <= 900


def test_estimates_follow_what_was_measured_on_the_card():
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


# Records


def test_what_is_left(tmp_path):
    job = make_job("rates", FULL)
    part = [row.id for row in job.rows if row.part == "l1 d=50"]

    def left(*lines, card=CARD, commit=None):
        return {row.id for row in records.left(job, lines, card, commit, tmp_path)}

    everything = {row.id for row in job.rows}
    assert left() == everything
    assert left(line("begun")) == everything
    assert left(line()) == everything - {line()["id"]}
    # A part that another card did not end is made whole on this one, its baseline with it.
    assert left(line(), card=OTHER) == everything
    assert left(*(line(id=name) for name in part), card=OTHER) == everything - set(part)
    mixed = [line(id=name, card=card) for name, card in zip(part, [CARD, OTHER] * len(part), strict=False)]
    assert left(*mixed, card="TPU v5e") == everything
    assert left(line("failed"), commit=None) == everything - {line()["id"]}
    assert left(line("failed"), commit="other") == everything
    assert left(line("failed"), card=OTHER) == everything
    trainings = make_job("train", FULL)
    name = trainings.rows[0].name
    (tmp_path / f"{name}.json").write_text("{}")
    assert trainings.rows[0] not in records.left(trainings, [], OTHER, None, tmp_path)
    assert trainings.rows[1] in records.left(trainings, [], OTHER, None, tmp_path)


def test_a_job_is_measured_again_on_request(tmp_path):
    places, out = Places(tmp_path), tmp_path / "out"
    places.record.parent.mkdir(parents=True)
    grid = line(id="grid/default grid/xla")
    places.record.write_text("".join(json.dumps(own) + "\n" for own in (line(), grid)))
    assert records.known(places, out) == [line(), grid]
    assert records.known(places, out, ["rates"]) == [grid]
    # What this call has measured counts.
    records.Writer((out, places.kept), {}).write(line(seconds=3.0))
    assert records.known(places, out, ["rates"]) == [grid, *[line(seconds=3.0)] * 2]


def test_lines_are_whole_and_files_small(tmp_path, monkeypatch):
    writer = records.Writer((tmp_path / "a", tmp_path / "b"), {"jax": "0"})
    writer.write({"n": 0})
    for folder in ("a", "b"):
        with (tmp_path / folder / "results.jsonl").open("a") as file:
            file.write('{"n": 99, "to')
    writer.write({"n": 1})
    assert records.read(tmp_path / "a") == records.read(tmp_path / "b") == [{"jax": "0", "n": n} for n in (0, 1)]
    monkeypatch.setattr(records, "FILE_BYTES", 200)
    written = fill(writer)
    with pytest.raises(BadInput, match=r"must hold at most 3 files of results of 200 bytes, got another line$"):
        writer.write({"n": written})
    files = records.files(tmp_path / "a")
    assert len(files) == records.FILES
    assert all(path.stat().st_size < 200 for path in files)
    assert [own["n"] for own in records.read(*files)] == list(range(written))
    with pytest.raises(ValueError, match="JSON"):
        writer.write({"n": float("nan")})


def fill(writer):
    """Writes until there is no more room and returns the number of the line that had none."""
    for n in range(2, 1000):
        try:
            writer.write({"n": n})
        except BadInput:
            return n
    raise AssertionError("there is always room")


def test_what_is_sent_home_is_within_what_may_come_back():
    assert records.FILES + 1 <= 8
    assert records.FILE_BYTES <= 16 * 2**20
    assert records.FILES * records.FILE_BYTES + runner.LOG_BYTES <= 64 * 2**20


# What is carried


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """A folder of six small mosaics; this process takes them for CIFAR-10's."""
    monkeypatch.setattr(cifar10, "FILES", dict(cifar10.FILES))
    folder = tmp_path / "root" / "packed"
    rehearsal.make_images(folder)
    rehearsal.use_small_images(Places(tmp_path / "root"))
    return folder


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / ".gitignore").write_text("/build/\n")
    (folder / "code.py").write_text("x" * 1000)
    return folder


def test_each_call_carries_a_half_and_both_make_the_whole(packed, checkout, tmp_path):
    places = Places(tmp_path / "root")
    sizes = pack.pack(places, packed, checkout)
    found = {call: {path.name for path in places.carried(call).iterdir()} for call in (1, 2)}
    assert found[1] & found[2] == {mosaics.LABELS, pack.COMMIT}
    assert len(found[1]) == len(found[2]) == 5
    for call in (1, 2):
        images = sum(path.stat().st_size for path in places.carried(call).iterdir() if path.name != pack.COMMIT)
        assert sizes[call] == images + 1000 + len("/build/\n")
    mosaics.unpack(places.carried(2), places.images)
    assert mosaics.missing(places.images) == list(mosaics.HALVES[0])
    mosaics.unpack(places.carried(1), places.images)
    assert mosaics.missing(places.images) == []
    train, test = cifar10.load_cifar10(places.images)
    assert train.images.shape == (500, 32, 32, 3)
    assert test.labels.tobytes() == (packed / mosaics.LABELS).read_bytes()[-100:]


def test_over_62_mib_is_refused(packed, checkout, tmp_path):
    places = Places(tmp_path / "root")
    before = pack.pack(places, packed, checkout)
    kept = sorted(places.root.glob("build/**/*"))
    for where in ("large.bin", "shared/large.bin"):
        path = checkout / where
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(pack.LIMIT - max(before.values()))
        pack.pack(places, packed, checkout)
        with path.open("ab") as file:
            file.truncate(pack.LIMIT - max(before.values()) + 1)
        with pytest.raises(
            BadInput, match=r"^call \d must carry at most 62 MiB, got 62\.0 MiB, \d\d\.\d of them files of"
        ):
            pack.pack(places, packed, checkout)
        assert sorted(places.root.glob("build/**/*")) == kept
        path.unlink()
    (checkout / "build").mkdir()
    (checkout / "build" / "large.bin").write_bytes(bytes(1000))
    assert pack.pack(places, packed, checkout) == before  # ignored


def test_what_pack_refuses(packed, checkout, tmp_path):
    places = Places(tmp_path / "root")
    with pytest.raises(BadInput, match=r"^the checkout must be a git repository, got "):
        pack.pack(places, packed, tmp_path)
    (packed / "data_batch_5.webp").unlink()
    with pytest.raises(BadInput, match=r"^--images must be a folder that holds data_batch_5\.webp, got "):
        pack.pack(places, packed, checkout)


def test_the_calls_say_what_they_carry():
    for call in (1, 2):
        said = pack.command(call, 500.0)
        (carried,) = said["carry"]
        assert Places(ROOT).carried(call) == ROOT / carried
        assert subprocess.run(["git", "-C", str(ROOT), "check-ignore", "-q", carried], check=False).returncode == 0
        assert 500 < said["timeout_s"] <= 600
        assert len(said["command"]) < 2000
        words = said["command"].split()
        options = cli.make_parser().parse_args(words[words.index("experiments.accelerator") + 1 :])
        assert (options.call, options.seconds) == (call, 500)


def test_mosaics_are_lossless_and_altered_ones_refused(packed, tmp_path):
    data = np.random.default_rng(0).integers(0, 256, (200, cifar10.RECORD), dtype=np.uint8)
    labels = mosaics.write_mosaic(data.tobytes(), tmp_path / "x.webp")
    assert labels == data[:, 0].tobytes()
    assert mosaics.read_mosaic(tmp_path / "x.webp", labels) == data.tobytes()
    with pytest.raises(BadInput, match=r"x\.webp must be a mosaic of 100 images, got none"):
        mosaics.read_mosaic(tmp_path / "x.webp", labels[:100])
    shutil.copy(packed / "data_batch_1.webp", packed / "data_batch_2.webp")
    with pytest.raises(BadInput, match=r"data_batch_2\.webp must unpack to the MD5 sum \w+, got \w+: altered"):
        mosaics.unpack(packed, tmp_path / "there")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["data_batch_1.bin"]
    (packed / "data_batch_2.webp").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"data_batch_2\.webp must be a mosaic of 100 images, got none"):
        mosaics.unpack(packed, tmp_path / "there")


# What comes back


def test_good_lines_are_written_once_and_bad_ones_named(tmp_path, capsys):
    places, back = Places(tmp_path / "root"), tmp_path / "back"
    back.mkdir()
    bad = [
        ('{"kind": "res', "a line must be JSON, got"),
        (json.dumps([1]), "kind must be a text, got [1]"),
        (line(kind="done"), "kind must be begun, result, failed or stopped, got 'done'"),
        (line(id="rates/l1 d=51/cuda"), "id must be that of a row of the queue, got 'rates/l1 d=51/cuda'"),
        (line(card=""), "device_kind must be a text, got ''"),
        (line(rehearsal=True), "rehearsal must be False, got True"),
        (line(seconds=0), "seconds must be > 0 and finite, got 0"),
        (line(result=3), "result must be an object, got 3"),
        (line(result=RATE), "engine must be in the result, got penalty, d, updates_per_second"),
        (
            line(result=RATE | {"engine": "cuda", "updates_per_second": [1.0, -1.0]}),
            "updates_per_second must be a list",
        ),
        (
            line(result=RATE | {"engine": "cuda", "updates_per_second": [float("inf")]}),
            "updates_per_second must be a list",
        ),
    ]
    good = [line("begun"), line(), line("failed", "rates/l1 d=50/pallas")]
    texts = [own if isinstance(own, str) else json.dumps(own) for own in (*good, *(own for own, _ in bad))]
    (back / "results.jsonl").write_text("\n".join(texts) + "\n")
    new, wrong = collect.collect(places, FULL, back)
    assert new == good[1:]
    assert len(wrong) == len(bad)
    for number, (said, (_, want)) in enumerate(zip(wrong, bad, strict=True), len(good) + 1):
        assert said.startswith(f"results.jsonl, line {number}: ")
        assert want in said
    assert collect.collect(places, FULL, back)[0] == []
    assert records.read(places.record) == new
    # What an earlier call on that machine wrote comes again; or for the first time.
    other = line(id="rates/l1 d=50/xla")
    (back / "earlier-results.jsonl").write_text(json.dumps(line()) + "\n" + json.dumps(other) + "\n")
    assert collect.collect(places, FULL, back)[0] == [other]
    with pytest.raises(BadInput, match=r"^the folder must hold results\.jsonl, got "):
        collect.collect(places, FULL, tmp_path)


def test_a_training_that_comes_back_is_the_one_that_was_asked_for(tmp_path):
    places, back = Places(tmp_path / "root"), tmp_path / "back"
    back.mkdir()
    row = make_job("train", FULL).rows[0]
    record = {
        "settings": row.recipe.settings(),
        "curves": {"loss": [2.0, 1.0]},
        "test_accuracy_u": 0.9,
        "test_accuracy_w": 0.91,
        "zeros": 0.5,
        "seconds_per_epoch": 1.0,
    }
    short = {"run": row.name, "seconds_per_epoch": 1.0, "test_accuracy_u": 0.9, "test_accuracy_w": 0.91, "zeros": 0.5}

    def came(**changed):
        result = short | {"record": record | changed}
        (back / "results.jsonl").write_text(json.dumps(line(id=row.id, result=result)) + "\n")
        return collect.collect(places, FULL, back)

    for changed, want in (
        ({"settings": {}}, "settings must be {"),
        ({"zeros": 1.5}, "zeros must be in [0, 1], got 1.5"),
        ({"test_accuracy_u": None}, "test_accuracy_u must be in [0, 1], got None"),
        ({"curves": {"loss": [float("nan")]}}, "loss must be finite in every epoch"),
    ):
        new, (wrong,) = came(**changed)
        assert new == []
        assert want in wrong
        assert not places.runs.exists()
    new, wrong = came()
    assert wrong == []
    assert "record" not in new[0]["result"]
    assert json.loads((places.runs / f"{row.name}.json").read_text()) == json.loads(json.dumps(record))
    (places.runs / f"{row.name}.json").write_text("{}")
    came()
    assert (places.runs / f"{row.name}.json").read_text() == "{}"  # what is there stays


def test_tables(tmp_path):
    lines = [
        line(),
        line(id="rates/l1 d=50/xla", result=RATE | {"engine": "xla", "updates_per_second": [1e11]}),
        line(id="rates/l1 d=50/cuda", card=OTHER, result=RATE | {"engine": "cuda", "updates_per_second": [5e12]}),
        line("failed", "rates/l1 d=50/torch", error="PyTorch is not installed"),
        line(id="probe/ceilings/copy", result={"bytes_per_second": 3e12}),
    ]
    assert tables.rates_by_engine(lines) == {
        (CARD, "l1", 50): {"cuda": 2e12, "xla": 1e11},
        (OTHER, "l1", 50): {"cuda": 5e12},
    }
    text = tables.page(lines)
    assert "### NVIDIA H100 80GB HBM3\n\nJAX 0.11.2; 2026-11-28." in text
    assert "| l1, d = 50 | 2,000 | 100 | 20.00 |" in text
    assert "| copy, read and written | 3 TB/s |" in text
    assert "| rates/l1 d=50/torch | PyTorch is not installed |" in text
    assert tables.page([]) == tables.page([line("failed")]) == tables.NOTHING


def test_the_page_shows_what_is_committed():
    shown = (ROOT / "docs" / "accelerators.md").read_text(encoding="utf-8")
    assert f"<!-- {tables.MARKER} -->\n{tables.page(records.read(Places().record))}\n<!-- end -->" in shown


# The command


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        ("--call 3", "--call must be 1 or 2, got 3"),
        ("--seconds 0", "--seconds must be in (0, 1e6), got 0"),
        ("--seconds nan", "--seconds must be in (0, 1e6), got nan"),
        ("--seconds soon", "argument --seconds: invalid float value: 'soon'"),
        ("--again train", "--again must be one of probe, equal, rates, grid, grid-many, images, got 'train'"),
        ("--root x", "--root must be given with --rehearse alone, got x"),
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
    said = capsys.readouterr().err
    assert said.startswith(f"{cli.PROGRAM}: {want}")
    assert said.count("\n") == 1


def test_without_an_accelerator_nothing_runs(environment, tmp_path):
    done = cli_process(environment | {"PATH": ""}, "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the device must be a GPU or a TPU, got a CPU" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_plan_is_shown(capsys):
    assert cli.main(["--plan"]) == 0
    said = capsys.readouterr().out
    assert "call 1: " in said
    assert "call 2: " in said
    assert "left for later: " in said
