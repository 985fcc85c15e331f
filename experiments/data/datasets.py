"""Files of images: found in a folder of the user's, or downloaded once; whole, or refused by name."""

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


def folder_named(data_dir: Path | None) -> Path | None:
    """Returns the folder that the user names, by argument or in the environment; None: download."""
    return data_dir or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)


def found(folder: Path, below: str, name: str, files: str) -> Path:
    """Returns the file ``name`` in the folder or in ``below`` in it.

    Raises:
      BadInput: it is in neither; ``files`` says what the folder is to hold.
    """
    places = [folder / name, folder / below / name]
    for place in places:
        if place.is_file():
            return place
    raise BadInput(f"{name} is missing in {folder} and in {places[1].parent}; {mended(files)}")


def mended(files: str) -> str:
    """Returns what the user can do."""
    return f"name a folder that holds {files} with --data-dir or {VARIABLE}, or leave both out to download them"


def checked(path: Path, md5: str | None) -> bytes:
    """Returns the bytes of a file.

    Raises:
      BadInput: its MD5 sum is another.
    """
    data = path.read_bytes()
    got = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 and got != md5:
        raise BadInput(f"{path} must have the MD5 sum {md5}, got {got} ({len(data):,} bytes): altered or cut short")
    return data
