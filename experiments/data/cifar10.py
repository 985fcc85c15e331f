"""CIFAR-10: its binary version, from a folder or downloaded once, as arrays. The pickled version is never read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..records.folder import BadInput
from .datasets import Images, checked, folder_named, found, mended

FILES = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
"""Names and MD5 sums; the last holds the test images."""

BELOW, HELD = "cifar-10-batches-bin", "the six files of its binary version"
SOURCE = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SOURCE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
RECORD = 1 + 3 * 32 * 32
"""Bytes of a label and its image, channel by channel, row by row."""


def load_cifar10(data_dir: Path | None = None) -> tuple[Images, Images]:
    """Returns the 50,000 training and the 10,000 test images, of shape (n, 32, 32, 3), in file order.

    Args:
      data_dir: folder of the six files, or one above it called ``cifar-10-batches-bin``; default: the folder in the
        environment variable ``RVSMJAX_DATA``, else a cache folder of the platform, filled by download.

    Raises:
      BadInput: a file that is missing or is not the canonical one, or a download that failed.
    """
    folder = folder_named(data_dir) or _downloaded()
    parts = [read_batch(found(folder, BELOW, name, HELD), md5) for name, md5 in FILES.items()]
    train = Images(*(np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True)))
    return train, parts[-1]


def read_batch(path: Path, md5: str | None = None) -> Images:
    """Returns the images and labels of one file.

    Raises:
      BadInput: the file is cut short or altered (its MD5 sum is not ``md5``), or its size is no whole number of images.
    """
    data = np.frombuffer(checked(path, md5), np.uint8)
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
            processor=pooch.Untar(members=[f"{BELOW}/{name}" for name in FILES], extract_dir="cifar10"),
        )
    except Exception as error:  # any of the network's
        raise BadInput(
            f"{BELOW} could not be downloaded to {folder} ({type(error).__name__}: {error}); {mended(HELD)}"
        ) from None
    return Path(archive[0]).parent
