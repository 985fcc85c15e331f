"""Images and runs on their way to another machine and back: packed in parts, checked on arrival.

Command: ``python -m experiments.carry``. For a machine that is lent for minutes: ``slice`` unpacks what has arrived,
trains until the time is up and packs what there is, to go on from in the next slice.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shlex
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from experiments import cifar10, cli
from experiments.checkpoints import CHECKPOINTS, METRICS
from experiments.datasets import checked, found
from experiments.record import SETTINGS, BadInput

MANIFEST = "manifest.json"
IMAGES_PART, RUNS_PART = 60, 16
"""Largest part in MB (10⁶ bytes)."""
TILES = 100
"""Images side by side in a mosaic."""
PROGRAM = "python -m experiments.carry"


def pack(files: Iterable[tuple[str, Path]], folder: Path, part_mb: float) -> list[Path]:
    """Writes files as one archive in parts and returns the parts.

    Args:
      files: names in the archive, and where they are.
      folder: of the parts and their manifest; a parcel that is there is replaced when the new one is whole.
      part_mb: largest part in MB.

    Raises:
      BadInput: no files, or a size that is not positive.
    """
    if not part_mb > 0:
        raise BadInput(f"part_mb must be > 0, got {part_mb:g}")
    files = sorted(files)
    if not files:
        raise BadInput("pack needs a file at least, got none")
    fresh = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    with tempfile.TemporaryFile(dir=fresh.parent) as whole:
        with tarfile.open(fileobj=whole, mode="w") as archive:
            for name, path in files:
                archive.add(path, name)
        whole.seek(0)
        sums = {}
        while chunk := whole.read(int(part_mb * 1e6)):
            name = f"part-{len(sums) + 1:03d}"
            (fresh / name).write_bytes(chunk)
            sums[name] = hashlib.sha256(chunk).hexdigest()
    (fresh / MANIFEST).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.replace(folder)
    return [folder / name for name in sums]


def unpack(folder: Path, to: Path) -> None:
    """Writes the files of a parcel below ``to``; none of them if a part is missing or altered.

    Raises:
      BadInput: no manifest, or a part that is missing or altered.
    """
    try:
        sums = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BadInput(f"{folder} must hold the parts of a parcel and {MANIFEST}, got none that can be read") from None
    with tempfile.TemporaryFile() as whole:
        for name, want in sums.items():
            part = folder / name
            data = part.read_bytes() if part.is_file() else b""
            got = hashlib.sha256(data).hexdigest()
            if got != want:
                raise BadInput(f"{part} must have the SHA-256 sum {want[:12]}…, got {got[:12]}… ({len(data):,} bytes)")
            whole.write(data)
        whole.seek(0)
        with tarfile.open(fileobj=whole) as archive:
            archive.extractall(to, filter="data")


def pack_images(to: Path, data_dir: Path, part_mb: float = IMAGES_PART) -> None:
    """Packs CIFAR-10 losslessly, as mosaics that take up six tenths of its files.

    Args:
      to: folder of the parcel.
      data_dir: folder of the six files.
      part_mb: largest part in MB.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for name, md5 in cifar10.FILES.items():
            write_mosaic(checked(found(data_dir, cifar10.BELOW, name, cifar10.HELD), md5), Path(scratch) / name)
        parts = pack([(path.name, path) for path in Path(scratch).iterdir()], to, part_mb)
    _say(to, parts)


def unpack_images(parcel: Path, to: Path) -> None:
    """Writes the six files of CIFAR-10, each checked, into a folder.

    Args:
      parcel: folder of the parts.
      to: folder of the files.
    """
    with tempfile.TemporaryDirectory() as scratch:
        unpack(parcel, Path(scratch))
        to.mkdir(parents=True, exist_ok=True)
        for name, md5 in cifar10.FILES.items():
            if not (Path(scratch) / f"{name}.webp").is_file():
                raise BadInput(f"{parcel} must hold {name}.webp, packed by pack-images, got none")
            part = to / f"{name}.part"
            part.write_bytes(read_mosaic(Path(scratch) / name))
            checked(part, md5)
            part.replace(to / name)


def write_mosaic(records: bytes, path: Path) -> None:
    """Writes records of CIFAR-10's binary files as a lossless mosaic PATH.webp, and their labels as PATH.labels."""
    rows = np.frombuffer(records, np.uint8).reshape(-1, cifar10.RECORD)
    high = -(-len(rows) // TILES)
    tiles = np.zeros((high * TILES, 3, 32, 32), np.uint8)
    tiles[: len(rows)] = rows[:, 1:].reshape(-1, 3, 32, 32)
    mosaic = tiles.reshape(high, TILES, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(high * 32, TILES * 32, 3)
    Image.fromarray(mosaic).save(f"{path}.webp", lossless=True, quality=60, method=4)
    Path(f"{path}.labels").write_bytes(rows[:, 0].tobytes())


def read_mosaic(path: Path) -> bytes:
    """Returns the records that ``write_mosaic`` was given."""
    labels = np.frombuffer(Path(f"{path}.labels").read_bytes(), np.uint8)
    with Image.open(f"{path}.webp") as picture:
        mosaic = np.asarray(picture.convert("RGB"))
    tiles = mosaic.reshape(len(mosaic) // 32, 32, TILES, 32, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3 * 32 * 32)
    return np.concatenate([labels[:, None], tiles[: len(labels)]], 1).tobytes()


def pack_runs(to: Path, runs: Path, part_mb: float = RUNS_PART, weights: bool = False) -> None:
    """Packs finished runs, and of those under way what they go on from: the last checkpoint alone.

    Args:
      to: folder of the parcel.
      runs: folder of the runs.
      part_mb: largest part in MB.
      weights: also the weights of finished runs.
    """
    files = [path for path in runs.glob("*") if path.suffix in ((".json", ".npz") if weights else (".json",))]
    for settings in runs.glob(f"*/{SETTINGS}"):
        steps = [int(path.name) for path in (settings.parent / CHECKPOINTS).glob("*") if path.name.isdigit()]
        if steps:
            last = settings.parent / CHECKPOINTS / str(max(steps))
            files += [settings, settings.parent / METRICS, *(path for path in last.rglob("*") if path.is_file())]
    parts = pack([(str(path.relative_to(runs)), path) for path in files], to, part_mb)
    _say(to, parts)


def unpack_runs(parcel: Path, to: Path) -> None:
    """Adds the runs of a parcel to a folder; a run under way there is replaced by that of the parcel.

    Args:
      parcel: folder of the parts.
      to: folder of the runs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        unpack(parcel, Path(scratch))
        to.mkdir(parents=True, exist_ok=True)
        for path in Path(scratch).iterdir():
            old = to / path.name
            if old.is_dir():
                shutil.rmtree(old)
            shutil.move(path, old)


def train_slice(
    parcels: Path, work: Path, out: Path, minutes: float, flags: str = "", part_mb: float = RUNS_PART
) -> None:
    """Unpacks what has arrived, trains with the command ``cifar`` until the time is up, packs the runs.

    Args:
      parcels: folder with the parcels ``images`` and, from the second slice on, ``runs``.
      work: folder of this machine, for what is unpacked.
      out: folder of the parcel of runs to take back.
      minutes: time after which no epoch is begun.
      flags: of the command ``cifar``; on the command line they follow a ``--`` at the end.
      part_mb: largest part in MB.
    """
    arguments = ["cifar", *shlex.split(flags), "--minutes", f"{minutes:g}", "--runs", str(work / "runs")]
    config = cli.parse(arguments)
    if config.data == "cifar10":
        if not (work / "images").is_dir():
            unpack_images(parcels / "images", work / "images")
        arguments += ["--data-dir", str(work / "images")]
    if (parcels / "runs").is_dir():
        unpack_runs(parcels / "runs", work / "runs")
    code = cli.main([*arguments, "--out", str(work / "record"), "--overwrite", "--quiet"])
    if code and not any((work / "runs").glob(f"*/{SETTINGS}")):
        raise BadInput("flags must be those of a training that can begin; it says why above")
    pack_runs(out, work / "runs", part_mb)


def _say(folder: Path, parts: Sequence[Path]) -> None:
    total = sum(path.stat().st_size for path in parts)
    print(f"{folder}: {len(parts)} parts, {total / 1e6:.1f} MB")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs an action and returns its exit code: 0, or 2 for bad input."""
    actions = {
        "pack-images": pack_images,
        "unpack-images": unpack_images,
        "pack-runs": pack_runs,
        "unpack-runs": unpack_runs,
        "slice": train_slice,
    }
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "--" in arguments:
        place = arguments.index("--")
        arguments[place:] = [f"--flags={shlex.join(arguments[place + 1 :])}"]
    said, message = io.StringIO(), ""
    try:
        with contextlib.redirect_stderr(said):
            tyro.extras.subcommand_cli_from_dict(actions, prog=PROGRAM, description=__doc__, args=arguments)
    except SystemExit as end:
        if not end.code:
            raise
        message, said = cli.one_line(said.getvalue()), io.StringIO()
    except BadInput as error:
        message = str(error)
    print(said.getvalue(), end="", file=sys.stderr)
    if message:
        print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
    return cli.BAD_INPUT if message else 0


if __name__ == "__main__":
    sys.exit(main())
