"""A rental on a CPU, small: images are made and packed, two calls run the queue, what came back is collected."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..data import cifar10
from . import tables
from .jobs import TINY
from .places import Places
from .runner import Queue
from .transfer import collect, mosaics, pack

COUNT = 100
"""Images of a file."""
SUMS = "sums.json"


def rehearse(places: Places, seconds: float, environment: Mapping[str, str]) -> None:
    """Runs both calls in a scratch folder; what an earlier rehearsal there has finished is not run again.

    Args:
      places: below the scratch folder.
      seconds: of a call.
      environment: of the jobs.
    """
    packed = places.root / "packed"
    if not (packed / SUMS).is_file():
        make_images(packed)
    use_small_images(places)
    for call, size in pack.pack(places, packed).items():
        print(f"call {call}: {size / 2**20:.1f} MiB to carry")
    environment = dict(environment) | {"JAX_PLATFORMS": "cpu"}
    for call in (1, 2):
        out = places.root / f"out-{call}"
        Queue(places, TINY, call, seconds, out, environment).run()
        new, wrong = collect.collect(places, TINY, out)
        print(f"call {call}: {len(new)} new lines", *wrong, sep="\n")
    tables.write_page(places)


def make_images(packed: Path) -> None:
    """Writes six small files as CIFAR-10's are packed, of noise in a colour for each class."""
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


def use_small_images(places: Places) -> None:
    """Lets this process take the small files for CIFAR-10's."""
    cifar10.FILES.update(json.loads((places.root / "packed" / SUMS).read_text(encoding="utf-8")))
