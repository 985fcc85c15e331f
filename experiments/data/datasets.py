"""Files of data sets: lookup in a local folder, check of their MD5 sums."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..records.folder import BadInput

VARIABLE = "RVSMJAX_DATA"


class Images(NamedTuple):
    """Images of shape (n, height, width, channels) and their labels of shape (n,), both uint8."""

    images: np.ndarray
    labels: np.ndarray


def given_folder(data_dir: Path | None) -> Path | None:
    """Returns ``data_dir``, by default the folder in the environment variable; None if neither is set."""
    return data_dir or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)


def find_file(folder: Path, subfolder: str, name: str, content: str) -> Path:
    """Returns the path of a file in a folder or its subfolder.

    Raises:
      BadInput: the file is in neither; ``content`` describes the files in the message.
    """
    for path in (folder / name, folder / subfolder / name):
        if path.is_file():
            return path
    raise BadInput(f"{name} is missing in {folder} and in {folder / subfolder}; {hint(content)}")


def hint(content: str) -> str:
    """Returns the advice at the end of an error message."""
    return f"set --data-dir or {VARIABLE} to a folder that holds {content}, or omit both to download them"


def read_checked(path: Path, md5: str | None) -> bytes:
    """Returns the bytes of a file.

    Raises:
      BadInput: the MD5 sum is not ``md5``.
    """
    data = path.read_bytes()
    got = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 and got != md5:
        raise BadInput(f"{path} must have the MD5 sum {md5}, got {got} ({len(data):,} bytes): altered or cut short")
    return data
