"""Small rehearsal of a rental on a CPU: synthetic images are packed, two calls run the queue, results are collected."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..data import cifar10
from . import tables
from .jobs import TINY
from .paths import Paths
from .runner import Queue
from .transfer import collect, mosaics, pack

COUNT = 100
"""Images per file."""
SUMS = "sums.json"


def rehearse(paths: Paths, seconds: float, environment: Mapping[str, str]) -> None:
    """Runs both calls in a scratch folder; rows finished by an earlier rehearsal there are skipped.

    Args:
      paths: folders and files below the scratch folder.
      seconds: time budget of a call.
      environment: environment of the jobs.
    """
    packed = paths.root / "packed"
    if not (packed / SUMS).is_file():
        make_images(packed)
    use_small_images(paths)
    for call, size in pack.pack(paths, packed).items():
        print(f"call {call}: {size / 2**20:.1f} MiB to carry")
    environment = dict(environment) | {"JAX_PLATFORMS": "cpu"}
    for call in (1, 2):
        out = paths.root / f"out-{call}"
        Queue(paths, TINY, call, seconds, out, environment).run()
        new, errors = collect.collect(paths, TINY, out)
        print(f"call {call}: {len(new)} new lines", *errors, sep="\n")
    tables.write_page(paths)


def make_images(packed: Path) -> None:
    """Writes six small mosaics in the format of CIFAR-10's, with noise in one colour per class."""
    packed.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 200, (10, 3, 1))
    labels, sums = b"", {}
    for name in cifar10.FILES:
        rows = rng.integers(0, 56, (COUNT, 1 + 3 * 32 * 32), np.uint8)
        rows[:, 0] = rng.integers(0, 10, COUNT)
        rows[:, 1:] += colours[rows[:, 0]].astype(np.uint8).repeat(1024, 2).reshape(COUNT, -1)
        labels += mosaics.write_mosaic(rows.tobytes(), packed / mosaics.mosaic_name(name))
        sums[name] = hashlib.md5(rows.tobytes(), usedforsecurity=False).hexdigest()
    (packed / mosaics.LABELS).write_bytes(labels)
    (packed / SUMS).write_text(json.dumps(sums), encoding="utf-8")


def use_small_images(paths: Paths) -> None:
    """Makes this process accept the small files as those of CIFAR-10."""
    cifar10.FILES.update(json.loads((paths.root / "packed" / SUMS).read_text(encoding="utf-8")))
