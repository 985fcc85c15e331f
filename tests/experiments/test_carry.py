"""Images and runs on the way: they arrive whole or are refused, and a training goes on to the same bits."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from experiments import carry, cifar10, datasets, images
from experiments.record import BadInput

FLAGS = "--net slim --preset short --quick --data cifar10 --method rvsm --penalty l0 --epochs 3 --batch 50"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder of small files of CIFAR-10's form, with their own sums, and a validation set of 50 of their images."""
    folder = tmp_path / "files"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in cifar10.FILES:
        data = rng.integers(0, 256, (30, cifar10.RECORD), dtype=np.uint8)
        data[:, 0] %= 10
        (folder / name).write_bytes(data.tobytes())
        monkeypatch.setitem(cifar10.FILES, name, hashlib.md5(data.tobytes()).hexdigest())
    monkeypatch.delenv(datasets.VARIABLE, raising=False)
    monkeypatch.setitem(images.SOURCES, "cifar10", (cifar10.load_cifar10, 50))
    return folder


@pytest.mark.parametrize("count", [1, 100, 130])
def test_mosaics_are_lossless(count, tmp_path):
    records = np.random.default_rng(count).integers(0, 256, (count, cifar10.RECORD), dtype=np.uint8).tobytes()
    carry.write_mosaic(records, tmp_path / "x.bin")
    assert carry.read_mosaic(tmp_path / "x.bin") == records


def test_images_arrive_whole_in_small_parts(small, tmp_path, capsys):
    arguments = ["--to", str(tmp_path / "parcel"), "--data-dir", str(small), "--part-mb", "0.2"]
    assert carry.main(["pack-images", *arguments]) == 0
    parts = sorted((tmp_path / "parcel").glob("part-*"))
    assert len(parts) > 1
    assert all(part.stat().st_size <= 200_000 for part in parts)
    assert f"{len(parts)} parts" in capsys.readouterr().out
    assert carry.main(["unpack-images", "--parcel", str(tmp_path / "parcel"), "--to", str(tmp_path / "there")]) == 0
    for name in cifar10.FILES:
        assert (tmp_path / "there" / name).read_bytes() == (small / name).read_bytes()


def test_what_is_altered_on_the_way_is_refused(small, tmp_path, capsys):
    parcel, there = tmp_path / "parcel", tmp_path / "there"
    carry.pack_images(parcel, small, part_mb=0.2)
    part, data = parcel / "part-002", (parcel / "part-002").read_bytes()
    for wrong in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), None):
        part.unlink() if wrong is None else part.write_bytes(wrong)
        assert carry.main(["unpack-images", "--parcel", str(parcel), "--to", str(there)]) == 2
        error = capsys.readouterr().err
        assert "part-002 must have the SHA-256 sum " in error
        assert error.count("\n") == 1
        assert not there.exists()
    (parcel / carry.MANIFEST).unlink()
    with pytest.raises(BadInput, match=r"must hold the parts of a parcel and manifest\.json, got none that can be re"):
        carry.unpack(parcel, there)
    carry.pack([("a", small / "test_batch.bin")], parcel, 1)
    with pytest.raises(BadInput, match=r"must hold data_batch_1\.bin\.webp, packed by pack-images, got none$"):
        carry.unpack_images(parcel, there)


def test_bad_input(small, tmp_path):
    with pytest.raises(BadInput, match=r"^part_mb must be > 0, got 0$"):
        carry.pack([("a", small / "test_batch.bin")], tmp_path / "parcel", 0)
    with pytest.raises(BadInput, match=r"^pack needs a file at least, got none$"):
        carry.pack_runs(tmp_path / "parcel", tmp_path / "nothing")
    with pytest.raises(BadInput, match=r"^data_batch_1\.bin is missing in "):
        carry.pack_images(tmp_path / "parcel", tmp_path)
    assert not (tmp_path / "parcel").exists()


def test_flags_of_the_training_follow_two_dashes(tmp_path, monkeypatch, capsys):
    seen = []

    def train_slice(parcels: Path, work: Path, out: Path, minutes: float, flags: str = "") -> None:
        seen.append((minutes, flags))

    monkeypatch.setattr(carry, "train_slice", train_slice)
    where = [f"--{name}={tmp_path}" for name in ("parcels", "work", "out")]
    assert carry.main(["slice", *where, "--minutes", "8", "--", "--net", "slim", "--seeds", "1"]) == 0
    assert seen == [(8.0, "--net slim --seeds 1")]
    for wrong in (["slice", *where, "--minutes", "soon"], ["unpack"], []):
        assert carry.main(wrong) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_slices_end_in_the_bits_of_one_training(small, tmp_path, monkeypatch, capsys):
    """Each slice on a machine of its own, which has what was carried to it alone."""
    carry.pack_images(tmp_path / "sent" / "images", small)
    whole = tmp_path / "whole"
    carry.train_slice(tmp_path / "sent", whole, tmp_path / "whole_back", 100, FLAGS)
    monkeypatch.setattr("experiments.runs.SAVE_EVERY", 1e9)
    for place in (1, 2, 3):
        here, back = tmp_path / f"machine{place}", tmp_path / f"back{place}"
        carry.train_slice(tmp_path / "sent", here, back, 1e-9, FLAGS, part_mb=0.3)
        parts = sorted(back.glob("part-*"))
        assert all(part.stat().st_size <= 300_000 for part in parts)
        (tmp_path / "sent" / "runs").exists() and carry.shutil.rmtree(tmp_path / "sent" / "runs")
        back.rename(tmp_path / "sent" / "runs")
        under_way = list((here / "runs").glob("*/metrics.jsonl"))
        assert [len(path.read_text().splitlines()) for path in under_way] == ([place] if place < 3 else [])
    ends = [next((folder / "runs").glob("*.npz")) for folder in (here, whole)]
    assert ends[0].name == ends[1].name
    with np.load(ends[0]) as a, np.load(ends[1]) as b:
        assert a.files == b.files
        assert all(a[name].tobytes() == b[name].tobytes() for name in a.files)
    home = tmp_path / "home"
    carry.unpack_runs(tmp_path / "sent" / "runs", home)
    finished = json.loads(next(home.glob("*.json")).read_text())
    assert finished["curves"] == json.loads(next((whole / "runs").glob("*.json")).read_text())["curves"]
    assert not list(home.glob("*.npz"))
    capsys.readouterr()
    with pytest.raises(BadInput, match=r"^flags must be those of a training that can begin; it says why above$"):
        carry.train_slice(tmp_path / "sent", tmp_path / "new", tmp_path / "back", 1, f"{FLAGS} --batch 0")
