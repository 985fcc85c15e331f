"""Environment of a run: versions, commit, machine, memory, times of its phases."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .folder import Facts

PACKAGES = ["jax", "jaxlib", "optax", "flax", "numpy", "xarray", "zarr", "pandas", "vl-convert-python"]
ONE_HEAP, NO_MAPPINGS, KEPT, AHEAD = (-8, 1), (-4, 0), (-1, 2**31 - 1), (-2, 2**26)
"""Arguments of glibc's ``mallopt``: M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD."""


def describe() -> Facts:
    """Returns versions, commit, machine and devices."""
    import jax

    import rvsmjax

    return {
        "versions": {"python": platform.python_version(), "rvsmjax": rvsmjax.__version__, **_versions()},
        "commit": commit(),
        "platform": platform.platform(),
        "cores": usable_cores(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
    }


def usable_cores() -> int:
    """Returns the number of cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> int:
    """Returns the peak memory of this process in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def keep_memory() -> None:
    """Has glibc keep the memory of a training step for the next one.

    By default it returns large blocks to the system and gets them again in every step, page by page, which takes a
    third of the time of a convolutional network on a CPU. Many small programs in turn, as in the audit, are slower with
    one heap. Other C libraries are left as they are.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for option in (ONE_HEAP, NO_MAPPINGS, KEPT, AHEAD):
            mallopt(*option)


def commit(folder: Path | None = None) -> Facts | None:
    """Returns the commit of the checkout and whether it has changes; None outside a checkout."""
    folder = folder or Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder.resolve():
            return None
        return {"hash": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


class Clock:
    """Wall time in seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time of the body to phase ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions
