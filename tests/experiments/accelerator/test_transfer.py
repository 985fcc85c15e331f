"""Transfer of files: packing, mosaics of the images, collection of results."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from experiments.accelerator import cli, records
from experiments.accelerator.jobs import FULL, make_job
from experiments.accelerator.paths import Paths
from experiments.accelerator.transfer import collect, mosaics, pack
from experiments.data import cifar10
from experiments.records.folder import BadInput
from tests.experiments.accelerator.lines import RATE, ROOT, line


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / ".gitignore").write_text("/build/\n")
    (folder / "code.py").write_text("x" * 1000)
    return folder


def test_each_call_carries_one_half(packed, checkout, tmp_path):
    paths = Paths(tmp_path / "root")
    sizes = pack.pack(paths, packed, checkout)
    first, second = ({path.name for path in paths.carried(call).iterdir()} for call in (1, 2))
    assert first & second == {mosaics.LABELS, pack.COMMIT}
    assert len(first) == len(second) == 5
    for call in (1, 2):
        images = sum(path.stat().st_size for path in paths.carried(call).iterdir() if path.name != pack.COMMIT)
        assert sizes[call] == images + 1000 + len("/build/\n")
    mosaics.unpack(paths.carried(2), paths.images)
    assert mosaics.missing(paths.images) == list(mosaics.HALVES[0])
    mosaics.unpack(paths.carried(1), paths.images)
    assert mosaics.missing(paths.images) == []
    train, test = cifar10.load_cifar10(paths.images)
    assert train.images.shape == (500, 32, 32, 3)
    assert test.labels.tobytes() == (packed / mosaics.LABELS).read_bytes()[-100:]


def test_over_62_mib_is_refused(packed, checkout, tmp_path):
    paths = Paths(tmp_path / "root")
    before = pack.pack(paths, packed, checkout)
    packed_files = sorted(paths.root.glob("build/**/*"))
    for where in ("large.bin", "shared/large.bin"):
        path = checkout / where
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(pack.LIMIT - max(before.values()))
        pack.pack(paths, packed, checkout)
        with path.open("ab") as file:
            file.truncate(pack.LIMIT - max(before.values()) + 1)
        with pytest.raises(BadInput, match=r"^call \d must .* at most 62 MiB, got 62\.0 MiB, \d\d\.\d of them files"):
            pack.pack(paths, packed, checkout)
        assert sorted(paths.root.glob("build/**/*")) == packed_files
        path.unlink()
    (checkout / "build").mkdir()
    (checkout / "build" / "large.bin").write_bytes(bytes(1000))
    assert pack.pack(paths, packed, checkout) == before  # ignored


def test_pack_refuses_missing_files(packed, checkout, tmp_path):
    paths = Paths(tmp_path / "root")
    with pytest.raises(BadInput, match=r"^the checkout must .*, got "):
        pack.pack(paths, packed, tmp_path)
    (packed / "data_batch_5.webp").unlink()
    with pytest.raises(BadInput, match=r"^--images must .* data_batch_5\.webp, got "):
        pack.pack(paths, packed, checkout)


def test_commands_of_the_calls():
    for call in (1, 2):
        arguments = pack.command(call, 500.0)
        (carried,) = arguments["carry"]
        assert Paths(ROOT).carried(call) == ROOT / carried
        assert subprocess.run(["git", "-C", str(ROOT), "check-ignore", "-q", carried], check=False).returncode == 0
        assert 500 < arguments["timeout_s"] <= 600
        assert len(arguments["command"]) < 2000
        words = arguments["command"].split()
        options = cli.make_parser().parse_args(words[words.index("experiments.accelerator") + 1 :])
        assert (options.call, options.seconds) == (call, 500)


def test_mosaics_are_lossless_and_checked(packed, tmp_path):
    data = np.random.default_rng(0).integers(0, 256, (200, cifar10.RECORD), dtype=np.uint8)
    labels = mosaics.write_mosaic(data.tobytes(), tmp_path / "x.webp")
    assert labels == data[:, 0].tobytes()
    assert mosaics.read_mosaic(tmp_path / "x.webp", labels) == data.tobytes()
    with pytest.raises(BadInput, match=r"x\.webp must be a mosaic of 100 images, got "):
        mosaics.read_mosaic(tmp_path / "x.webp", labels[:100])
    shutil.copy(packed / "data_batch_1.webp", packed / "data_batch_2.webp")
    with pytest.raises(BadInput, match=r"data_batch_2\.webp must .* MD5 sum \w+, got \w+: altered"):
        mosaics.unpack(packed, tmp_path / "images")
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["data_batch_1.bin"]
    (packed / "data_batch_2.webp").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"data_batch_2\.webp must be a mosaic of 100 images, got "):
        mosaics.unpack(packed, tmp_path / "images")


def test_valid_lines_are_written_once_and_invalid_ones_reported(tmp_path, capsys):
    paths, back = Paths(tmp_path / "root"), tmp_path / "back"
    back.mkdir()
    bad = [
        ('{"kind": "res', "line must be JSON, got"),
        (json.dumps([1]), "kind must be a nonempty string, got [1]"),
        (line(kind="done"), "kind must be begun, result, failed or stopped, got 'done'"),
        (line(id="rates/l1 d=51/cuda"), "id must be that of a row of the queue, got 'rates/l1 d=51/cuda'"),
        (line(card=""), "device_kind must be a nonempty string, got ''"),
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
    texts = [entry if isinstance(entry, str) else json.dumps(entry) for entry in (*good, *(text for text, _ in bad))]
    (back / "results.jsonl").write_text("\n".join(texts) + "\n")
    new, errors = collect.collect(paths, FULL, back)
    assert new == good[1:]
    assert len(errors) == len(bad)
    for number, (error, (_, want)) in enumerate(zip(errors, bad, strict=True), len(good) + 1):
        assert error.startswith(f"results.jsonl, line {number}: ")
        assert want in error
    assert collect.collect(paths, FULL, back)[0] == []
    assert records.read(paths.record) == new
    # Results of an earlier call on that machine are returned again, or for the first time.
    other = line(id="rates/l1 d=50/xla")
    (back / "earlier-results.jsonl").write_text(json.dumps(line()) + "\n" + json.dumps(other) + "\n")
    assert collect.collect(paths, FULL, back)[0] == [other]
    with pytest.raises(BadInput, match=r"^the folder must hold results\.jsonl, got "):
        collect.collect(paths, FULL, tmp_path)


def test_a_returned_training_must_match_its_recipe(tmp_path):
    paths, back = Paths(tmp_path / "root"), tmp_path / "back"
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

    def collect_changed(**changed):
        result = short | {"record": record | changed}
        (back / "results.jsonl").write_text(json.dumps(line(id=row.id, result=result)) + "\n")
        return collect.collect(paths, FULL, back)

    for changed, want in (
        ({"settings": {}}, "settings must be {"),
        ({"zeros": 1.5}, "zeros must be in [0, 1], got 1.5"),
        ({"test_accuracy_u": None}, "test_accuracy_u must be in [0, 1], got None"),
        ({"curves": {"loss": [float("nan")]}}, "loss must be finite in every epoch"),
    ):
        new, (error,) = collect_changed(**changed)
        assert new == []
        assert want in error
        assert not paths.runs.exists()
    new, errors = collect_changed()
    assert errors == []
    assert "record" not in new[0]["result"]
    assert json.loads((paths.runs / f"{row.name}.json").read_text()) == json.loads(json.dumps(record))
    (paths.runs / f"{row.name}.json").write_text("{}")
    collect_changed()
    assert (paths.runs / f"{row.name}.json").read_text() == "{}"  # existing files are kept
