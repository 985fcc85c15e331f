"""MNIST: the four canonical files, from a folder or downloaded once, as arrays."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from ..records.folder import BadInput
from .datasets import Images, checked, folder_named, found, mended

FILES = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""Names and MD5 sums."""

SOURCES = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
HELD = "the four files"


def load_mnist(data_dir: Path | None = None) -> tuple[Images, Images]:
    """Returns the 60,000 training and the 10,000 test images.

    Args:
      data_dir: folder of the four files, or one above it called ``mnist``; default: the folder in the environment
        variable ``RVSMJAX_DATA``, else a cache folder of the platform, filled by download.

    Raises:
      BadInput: a file that is missing or is not the canonical one, or a download that failed.
    """
    folder = folder_named(data_dir)
    paths = [found(folder, "mnist", name, HELD) if folder else _downloaded(name) for name in FILES]
    arrays = [read_idx(path, md5) for path, md5 in zip(paths, FILES.values(), strict=True)]
    train, train_labels, test, test_labels = arrays
    return Images(train[..., None], train_labels), Images(test[..., None], test_labels)


def _downloaded(name: str) -> Path:
    import pooch

    folder = pooch.os_cache("rvsmjax") / "mnist"
    failure: Exception | None = None
    for source in SOURCES:
        try:
            return Path(pooch.retrieve(source + name, f"md5:{FILES[name]}", fname=name, path=folder))
        except Exception as error:  # any of the network's; the next source may do
            failure = error
    raise BadInput(f"{name} could not be downloaded to {folder} ({type(failure).__name__}: {failure}); {mended(HELD)}")


def read_idx(path: Path, md5: str | None = None) -> np.ndarray:
    """Returns the array of unsigned bytes in a gzipped IDX file.

    Raises:
      BadInput: the file is cut short, altered (its MD5 sum is not ``md5``) or no IDX file of bytes.
    """
    packed = checked(path, md5)
    try:
        data = gzip.decompress(packed)
        zero, kind, rank = int.from_bytes(data[:2], "big"), data[2], data[3]
        shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank))
        if zero or kind != 8 or len(data) != 4 + 4 * rank + int(np.prod(shape)):
            raise ValueError
    except (OSError, EOFError, zlib.error, IndexError, ValueError):
        raise BadInput(f"{path} must be a gzipped IDX file of unsigned bytes, whole") from None
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)
