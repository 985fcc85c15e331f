"""CIFAR-10 on its way: each of its files is one lossless WebP mosaic of six tenths of the size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ...data import cifar10
from ...records.folder import BadInput

TILES = 100
"""Images side by side in a mosaic."""
LABELS = "labels.u8"
"""The labels of all files, a byte each, in the order of ``cifar10.FILES``."""
HALVES = tuple(cifar10.FILES)[:3], tuple(cifar10.FILES)[3:]
"""Files that travel with the first call and with the second."""


def mosaic_name(name: str) -> str:
    """Returns the name of the mosaic of one of CIFAR-10's files."""
    return name.replace(".bin", ".webp")


def write_mosaic(records: bytes, path: Path) -> bytes:
    """Writes the images of a binary file, a multiple of ``TILES``, as a mosaic and returns their labels."""
    rows = np.frombuffer(records, np.uint8).reshape(-1, cifar10.RECORD)
    tiles = rows[:, 1:].reshape(-1, TILES, 3, 32, 32)
    mosaic = tiles.transpose(0, 3, 1, 4, 2).reshape(-1, TILES * 32, 3)
    Image.fromarray(mosaic).save(path, lossless=True, quality=60, method=4)
    return rows[:, 0].tobytes()


def read_mosaic(path: Path, labels: bytes) -> bytes:
    """Returns the records that ``write_mosaic`` was given.

    Raises:
      BadInput: the file is no mosaic, or of another number of images than there are labels.
    """
    try:
        with Image.open(path) as picture:
            mosaic = np.asarray(picture.convert("RGB"))
        tiles = mosaic.reshape(-1, 32, TILES, 32, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3 * 32 * 32)
        whole = np.concatenate([np.frombuffer(labels, np.uint8)[:, None], tiles], 1)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} must be a mosaic of {len(labels):,} images, got none ({error})") from None
    return whole.tobytes()


def unpack(packed: Path, to: Path) -> list[str]:
    """Writes the binary files whose mosaics a folder holds, each checked, unless they are there; returns their names.

    Raises:
      BadInput: a mosaic or the labels are missing or altered.
    """
    names = [name for name in cifar10.FILES if (packed / mosaic_name(name)).is_file()]
    to.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (to / name).is_file():
            continue
        labels = (packed / LABELS).read_bytes()
        count = len(labels) // len(cifar10.FILES)
        place = list(cifar10.FILES).index(name) * count
        records = read_mosaic(packed / mosaic_name(name), labels[place : place + count])
        check(packed / mosaic_name(name), records, cifar10.FILES)
        part = to / f"{name}.part"
        part.write_bytes(records)
        part.replace(to / name)
    return names


def check(path: Path, records: bytes, sums: Mapping[str, str]) -> None:
    """Raises ``BadInput`` where the records of a mosaic have another MD5 sum."""
    want, got = sums[f"{path.stem}.bin"], hashlib.md5(records, usedforsecurity=False).hexdigest()
    if got != want:
        raise BadInput(f"{path} must unpack to the MD5 sum {want}, got {got}: altered or cut short")


def missing(images: Path) -> list[str]:
    """Returns the files of CIFAR-10 that a folder lacks."""
    return [name for name in cifar10.FILES if not (images / name).is_file()]
