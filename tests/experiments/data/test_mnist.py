"""Reader of MNIST: complete files only, errors name the file; the real files if available."""

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from experiments.data import datasets, mnist
from experiments.records.folder import BadInput

REAL = os.environ.get(datasets.VARIABLE)


def idx(array, kind=8):
    head = bytes([0, 0, kind, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return gzip.compress(head + array.tobytes(), mtime=0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Small files in the original format, with their MD5 sums registered."""
    rng = np.random.default_rng(0)
    for name in mnist.FILES:
        n = 6 if name.startswith("train") else 4
        shape = (n, 28, 28) if "images" in name else (n,)
        data = idx(rng.integers(0, 256, shape, dtype=np.uint8))
        (tmp_path / name).write_bytes(data)
        monkeypatch.setitem(mnist.FILES, name, hashlib.md5(data).hexdigest())
    monkeypatch.delenv(datasets.VARIABLE, raising=False)
    return tmp_path


def test_arrays_match_the_files(folder, monkeypatch):
    train, test = mnist.load_mnist(folder)
    assert (train.images.shape, train.labels.shape) == ((6, 28, 28, 1), (6,))
    assert (test.images.shape, test.labels.shape) == ((4, 28, 28, 1), (4,))
    want = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    np.testing.assert_array_equal(train.images[..., 0], want)
    monkeypatch.setenv(datasets.VARIABLE, str(folder))
    np.testing.assert_array_equal(mnist.load_mnist()[0].images, train.images)


def test_files_in_a_subfolder(folder):
    (folder / "mnist").mkdir()
    for name in mnist.FILES:
        (folder / name).rename(folder / "mnist" / name)
    assert mnist.load_mnist(folder)[1].labels.shape == (4,)


def test_errors_name_the_file(folder):
    name = "train-labels-idx1-ubyte.gz"
    path = folder / name
    whole = path.read_bytes()
    for data in (whole[:-3], whole[:-1] + b"x", b""):
        path.write_bytes(data)
        with pytest.raises(BadInput, match=rf"{name} must have the MD5 sum \w+, got \w+ \({len(data)} bytes\)"):
            mnist.load_mnist(folder)
    path.unlink()
    with pytest.raises(BadInput, match=rf"^{name} is missing in .*--data-dir or RVSMJAX_DATA"):
        mnist.load_mnist(folder)


@pytest.mark.parametrize(
    "data",
    [b"", b"text", gzip.compress(b"", mtime=0), idx(np.zeros(3, np.float32), 13), idx(np.zeros(3, np.uint8))[:-9]],
    ids=["empty", "text", "empty archive", "floats", "truncated"],
)
def test_other_files_are_refused(tmp_path, data):
    (tmp_path / "f.gz").write_bytes(data)
    with pytest.raises(BadInput, match=r"f\.gz must be a complete gzipped IDX file"):
        mnist.read_idx(tmp_path / "f.gz")


@pytest.mark.skipif(REAL is None, reason="RVSMJAX_DATA is not set")
def test_the_real_files():
    train, test = mnist.load_mnist(Path(REAL))
    assert (train.images.shape, test.images.shape) == ((60_000, 28, 28, 1), (10_000, 28, 28, 1))
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.images.mean() == pytest.approx(33.3184, abs=1e-4)
