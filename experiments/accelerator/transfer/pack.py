"""What travels with each call: the checkout, and one half of CIFAR-10."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from ...records import environment as surroundings
from ...records.folder import BadInput, Facts
from ..places import CHECKOUT, Places
from . import mosaics

LIMIT = 62 * 2**20
"""Bytes that a call may carry; two MiB below what is refused there."""
COMMIT = "commit.json"
"""The commit of the code, which travels without its history."""


def pack(places: Places, packed: Path, checkout: Path = CHECKOUT) -> dict[int, int]:
    """Lays out what the calls carry and returns the bytes of each, the checkout's included.

    Args:
      places: where to.
      packed: folder of the six mosaics and ``labels.u8``.
      checkout: the repository that travels.

    Raises:
      BadInput: a file is missing, or a call would carry more than ``LIMIT``.
    """
    for name in (*map(mosaics.mosaic_name, (*mosaics.HALVES[0], *mosaics.HALVES[1])), mosaics.LABELS):
        if not (packed / name).is_file():
            raise BadInput(f"--images must be a folder that holds {name}, got {packed}")
    code = checkout_bytes(checkout)
    sizes = {}
    for call, half in enumerate(mosaics.HALVES, 1):
        files = [packed / name for name in (*map(mosaics.mosaic_name, half), mosaics.LABELS)]
        sizes[call] = code + sum(path.stat().st_size for path in files)
        if sizes[call] > LIMIT:
            raise BadInput(
                f"call {call} must carry at most {LIMIT / 2**20:g} MiB, got {sizes[call] / 2**20:.1f} MiB, "
                f"{code / 2**20:.1f} of them files of the checkout that git does not ignore"
            )
    for call, half in enumerate(mosaics.HALVES, 1):
        to = places.carried(call)
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(parents=True)
        for name in (*map(mosaics.mosaic_name, half), mosaics.LABELS):
            shutil.copyfile(packed / name, to / name)
        (to / COMMIT).write_text(json.dumps(surroundings.commit(checkout)) + "\n", encoding="utf-8")
    return sizes


def checkout_bytes(root: Path) -> int:
    """Returns the bytes of the files that travel by themselves: those that git does not ignore, and ``shared``."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        raise BadInput(f"the checkout must be a git repository, got {root}")
    paths = {root / name for name in listed.stdout.decode().split("\0") if name}
    paths |= {path for path in (root / "shared").rglob("*") if path.is_file()}
    return sum(path.lstat().st_size for path in paths if path.is_symlink() or path.is_file())


def packed_commit(places: Places) -> Facts | None:
    """Returns the commit that was packed with the images, or this checkout's own."""
    for call in (2, 1):
        path = places.carried(call) / COMMIT
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    return surroundings.commit(CHECKOUT)


def command(call: int, seconds: float) -> Facts:
    """Returns how a call is made: the command, the folders it carries and its time limit."""
    words = f"PYTHONUNBUFFERED=1 python3 -m experiments.accelerator --call {call} --seconds {seconds:.0f}"
    return {"command": words, "carry": [f"build/carry/call-{call}"], "timeout_s": min(600, round(seconds + 15))}
