"""CIFAR-10 for the transfer: each file as a lossless WebP mosaic, 40 % smaller."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ...data import cifar10
from ...records.folder import BadInput

TILES = 100
"""Images per row of a mosaic."""
LABELS = "labels.u8"
"""File of the labels, one byte each, in the order of ``cifar10.FILES``."""
HALVES = tuple(cifar10.FILES)[:3], tuple(cifar10.FILES)[3:]
"""Files sent with the first and the second call."""


def mosaic_name(name: str) -> str:
    """Returns the mosaic's name for a file of CIFAR-10."""
    return name.replace(".bin", ".webp")


def write_mosaic(records: bytes, path: Path) -> bytes:
    """Writes the images of a binary file, a multiple of ``TILES``, as a mosaic and returns their labels."""
    rows = np.frombuffer(records, np.uint8).reshape(-1, cifar10.RECORD)
    tiles = rows[:, 1:].reshape(-1, TILES, 3, 32, 32)
    mosaic = tiles.transpose(0, 3, 1, 4, 2).reshape(-1, TILES * 32, 3)
    Image.fromarray(mosaic).save(path, lossless=True, quality=60, method=4)
    return rows[:, 0].tobytes()


def read_mosaic(path: Path, labels: bytes) -> bytes:
    """Returns the records of a mosaic, the inverse of ``write_mosaic``.

    Raises:
      BadInput: the file is not a mosaic of as many images as labels.
    """
    try:
        with Image.open(path) as picture:
            mosaic = np.asarray(picture.convert("RGB"))
        tiles = mosaic.reshape(-1, 32, TILES, 32, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3 * 32 * 32)
        records = np.concatenate([np.frombuffer(labels, np.uint8)[:, None], tiles], 1)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} must be a mosaic of {len(labels):,} images, got another file ({error})") from None
    return records.tobytes()


def unpack(packed: Path, to: Path) -> list[str]:
    """Unpacks the mosaics in a folder to binary files, checks them, and returns their names; skips existing files.

    Raises:
      BadInput: a mosaic or the labels are altered.
    """
    names = [name for name in cifar10.FILES if (packed / mosaic_name(name)).is_file()]
    to.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (to / name).is_file():
            continue
        labels = (packed / LABELS).read_bytes()
        count = len(labels) // len(cifar10.FILES)
        first = list(cifar10.FILES).index(name) * count
        records = read_mosaic(packed / mosaic_name(name), labels[first : first + count])
        check(packed / mosaic_name(name), records, cifar10.FILES)
        part = to / f"{name}.part"
        part.write_bytes(records)
        part.replace(to / name)
    return names


def check(path: Path, records: bytes, sums: Mapping[str, str]) -> None:
    """Raises ``BadInput`` unless the records of a mosaic have the MD5 sum of their file."""
    want, got = sums[f"{path.stem}.bin"], hashlib.md5(records, usedforsecurity=False).hexdigest()
    if got != want:
        raise BadInput(f"{path} must unpack to the MD5 sum {want}, got {got}: altered or truncated")


def missing(images: Path) -> list[str]:
    """Returns the names of the CIFAR-10 files missing in a folder."""
    return [name for name in cifar10.FILES if not (images / name).is_file()]
