"""CIFAR-10 as arrays, from a local folder or a cached download of its binary (not pickled) version."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..records.folder import BadInput
from .datasets import Images, find_file, given_folder, hint, read_checked

FILES = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
"""MD5 sums by file name; the last file holds the test images."""

SUBFOLDER, CONTENT = "cifar-10-batches-bin", "the six files of its binary version"
SOURCE = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SOURCE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
RECORD = 1 + 3 * 32 * 32
"""Bytes per record: a label, then its image by channel and row."""


def load_cifar10(data_dir: Path | None = None) -> tuple[Images, Images]:
    """Returns the 50,000 training and the 10,000 test images, of shape (n, 32, 32, 3), in file order.

    Args:
      data_dir: folder of the six files or of a subfolder ``cifar-10-batches-bin`` with them; default: the environment
        variable ``RVSMJAX_DATA``, else a download to the platform's cache folder.

    Raises:
      BadInput: a missing or altered file, or a failed download.
    """
    folder = given_folder(data_dir) or _downloaded()
    parts = [read_batch(find_file(folder, SUBFOLDER, name, CONTENT), md5) for name, md5 in FILES.items()]
    train = Images(*(np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True)))
    return train, parts[-1]


def read_batch(path: Path, md5: str | None = None) -> Images:
    """Returns the images and labels of one file.

    Raises:
      BadInput: the MD5 sum is not ``md5``, or the size is not a multiple of ``RECORD``.
    """
    data = np.frombuffer(read_checked(path, md5), np.uint8)
    if not data.size or data.size % RECORD:
        raise BadInput(f"{path} must hold a whole number of records of {RECORD} bytes, got {data.size:,} bytes")
    records = data.reshape(-1, RECORD)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Images(np.ascontiguousarray(images), records[:, 0].copy())


def _downloaded() -> Path:
    import pooch

    folder = pooch.os_cache("rvsmjax")
    try:
        archive = pooch.retrieve(
            SOURCE,
            f"md5:{SOURCE_MD5}",
            fname="cifar-10-binary.tar.gz",
            path=folder,
            processor=pooch.Untar(members=[f"{SUBFOLDER}/{name}" for name in FILES], extract_dir="cifar10"),
        )
    except Exception as error:  # any network error
        raise BadInput(
            f"{SUBFOLDER} could not be downloaded to {folder} ({type(error).__name__}: {error}); {hint(CONTENT)}"
        ) from None
    return Path(archive[0]).parent
