"""Files sent with each call: the checkout, and one half of CIFAR-10."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from ...records import environment
from ...records.folder import BadInput, Facts
from ..paths import CHECKOUT, Paths
from . import mosaics

LIMIT = 62 * 2**20
"""Maximum bytes per call, two MiB below the limit of the transfer."""
COMMIT = "commit.json"
"""File with the commit of the code, which is sent without its history."""


def pack(paths: Paths, packed: Path, checkout: Path = CHECKOUT) -> dict[int, int]:
    """Prepares the folders sent with the calls and returns the bytes per call, including the checkout.

    Args:
      paths: folders and files.
      packed: folder of the six mosaics and ``labels.u8``.
      checkout: the repository to send.

    Raises:
      BadInput: a file is missing, or a call would exceed ``LIMIT``.
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
        to = paths.carried(call)
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(parents=True)
        for name in (*map(mosaics.mosaic_name, half), mosaics.LABELS):
            shutil.copyfile(packed / name, to / name)
        (to / COMMIT).write_text(json.dumps(environment.commit(checkout)) + "\n", encoding="utf-8")
    return sizes


def checkout_bytes(root: Path) -> int:
    """Returns the bytes of the files that are always sent: those not ignored by git, and ``shared``."""
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


def packed_commit(paths: Paths) -> Facts | None:
    """Returns the commit packed with the images, or that of this checkout."""
    for call in (2, 1):
        path = paths.carried(call) / COMMIT
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    return environment.commit(CHECKOUT)


def command(call: int, seconds: float) -> Facts:
    """Returns the arguments of a call: command, folders to carry, time limit."""
    words = f"PYTHONUNBUFFERED=1 python3 -m experiments.accelerator --call {call} --seconds {seconds:.0f}"
    return {"command": words, "carry": [f"build/carry/call-{call}"], "timeout_s": min(600, round(seconds + 15))}
