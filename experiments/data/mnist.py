"""MNIST as arrays, from a local folder or a cached download of its four files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from ..records.folder import BadInput
from .datasets import Images, find_file, given_folder, hint, read_checked

FILES = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""MD5 sums by file name."""

SOURCES = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
CONTENT = "the four files"


def load_mnist(data_dir: Path | None = None) -> tuple[Images, Images]:
    """Returns the 60,000 training and the 10,000 test images.

    Args:
      data_dir: folder of the four files or of a subfolder ``mnist`` with them; default: the environment variable
        ``RVSMJAX_DATA``, else a download to the platform's cache folder.

    Raises:
      BadInput: a missing or altered file, or a failed download.
    """
    folder = given_folder(data_dir)
    paths = [find_file(folder, "mnist", name, CONTENT) if folder else _downloaded(name) for name in FILES]
    train, train_labels, test, test_labels = map(read_idx, paths, FILES.values())
    return Images(train[..., None], train_labels), Images(test[..., None], test_labels)


def _downloaded(name: str) -> Path:
    import pooch

    folder = pooch.os_cache("rvsmjax") / "mnist"
    failure: Exception | None = None
    for source in SOURCES:
        try:
            return Path(pooch.retrieve(source + name, f"md5:{FILES[name]}", fname=name, path=folder))
        except Exception as error:  # any network error; try the next source
            failure = error
    raise BadInput(f"{name} could not be downloaded to {folder} ({type(failure).__name__}: {failure}); {hint(CONTENT)}")


def read_idx(path: Path, md5: str | None = None) -> np.ndarray:
    """Returns the array of unsigned bytes in a gzipped IDX file.

    Raises:
      BadInput: the MD5 sum is not ``md5``, or the file is not a complete IDX file of unsigned bytes.
    """
    compressed = read_checked(path, md5)
    try:
        data = gzip.decompress(compressed)
        zero, kind, rank = int.from_bytes(data[:2], "big"), data[2], data[3]
        shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank))
        if zero or kind != 8 or len(data) != 4 + 4 * rank + int(np.prod(shape)):
            raise ValueError
    except (OSError, EOFError, zlib.error, IndexError, ValueError):
        raise BadInput(f"{path} must be a complete gzipped IDX file of unsigned bytes") from None
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)
