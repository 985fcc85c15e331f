"""Reader of CIFAR-10: complete files only, errors name the file; the real files if available."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from experiments.data import cifar10, datasets
from experiments.records.folder import BadInput

REAL = Path(os.environ.get(datasets.VARIABLE, "nowhere"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Small files in the original format, three random images each, with their MD5 sums registered."""
    rng = np.random.default_rng(0)
    for name in cifar10.FILES:
        data = rng.integers(0, 256, (3, cifar10.RECORD), dtype=np.uint8).tobytes()
        (tmp_path / name).write_bytes(data)
        monkeypatch.setitem(cifar10.FILES, name, hashlib.md5(data).hexdigest())
    monkeypatch.delenv(datasets.VARIABLE, raising=False)
    return tmp_path


def test_arrays_match_the_files(folder, monkeypatch):
    train, test = cifar10.load_cifar10(folder)
    assert (train.images.shape, train.labels.shape) == ((15, 32, 32, 3), (15,))
    assert (test.images.shape, test.labels.shape) == ((3, 32, 32, 3), (3,))
    data = (folder / "data_batch_2.bin").read_bytes()
    assert train.labels[4] == data[3073]
    for row, column, channel in ((0, 0, 0), (31, 0, 2), (5, 17, 1)):
        assert train.images[4, row, column, channel] == data[3073 + 1 + channel * 1024 + row * 32 + column]
    monkeypatch.setenv(datasets.VARIABLE, str(folder))
    np.testing.assert_array_equal(cifar10.load_cifar10()[1].images, test.images)


def test_files_in_a_subfolder(folder):
    below = folder / "cifar-10-batches-bin"
    below.mkdir()
    for name in cifar10.FILES:
        (folder / name).rename(below / name)
    assert cifar10.load_cifar10(folder)[0].labels.shape == (15,)


def test_errors_name_the_file(folder, tmp_path):
    path = folder / "data_batch_3.bin"
    data = path.read_bytes()
    for wrong in (data[:-1], b"", data[:-1] + bytes([data[-1] ^ 1])):
        path.write_bytes(wrong)
        with pytest.raises(BadInput, match=rf"data_batch_3\.bin must .* MD5 sum \w+, got \w+ \({len(wrong):,} bytes\)"):
            cifar10.load_cifar10(folder)
    path.unlink()
    with pytest.raises(BadInput, match=r"^data_batch_3\.bin is missing in .*cifar-10-batches-bin; .*--data-dir"):
        cifar10.load_cifar10(folder)
    (tmp_path / "f.bin").write_bytes(bytes(3074))
    with pytest.raises(BadInput, match=r"f\.bin must .* 3073 bytes, got 3,074 bytes$"):
        cifar10.read_batch(tmp_path / "f.bin")


@pytest.mark.skipif(not list(REAL.glob("**/data_batch_1.bin")), reason="no folder of CIFAR-10")
def test_the_real_files():
    train, test = cifar10.load_cifar10(REAL)
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    # The channel means commonly used for normalization.
    np.testing.assert_allclose(train.images.mean((0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=1e-4)
