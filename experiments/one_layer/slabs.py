"""Computation of a grid slab by slab, by one process or several, into a store on disk."""

from __future__ import annotations

import itertools
import math
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..cli.interrupts import in_thread, mendable, shown_progress
from ..records.folder import BadInput, Facts

if TYPE_CHECKING:
    import xarray as xr

    from rvsmjax.sweep import Grid, Slab, SweepResult

    from ..records.zarr_store import Store

FACTS = ("compile_seconds", "run_seconds", "steps_executed", "steps_needed")
"""Facts of a sweep that add up over slabs."""
LANE_BYTES = 11 * 8 + 4 + 4 + 1
"""Maximum size of a lane on disk."""


def compute(folder: Path, grid: Grid, parts: list[Slab], options: Facts, quiet: bool) -> tuple[xr.Dataset, Facts]:
    """Computes the missing slabs of a store; returns its lanes and the total facts.

    Args:
      folder: folder of the store.
      grid: the whole grid.
      parts: its slabs.
      options: arguments of ``run_sweep``, with ``tol``.
      quiet: whether to hide progress.

    Raises:
      BadInput: an invalid flag.
    """
    import jax

    from rvsmjax.sweep import labels

    from ..records.zarr_store import Store

    store = Store(folder, labels(grid, options["tol"]), grid.shape, parts[0].grid.shape)
    devices = [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
    sizes = [math.prod(place.stop - place.start for place in part.place.values()) for part in parts]
    missing = _missing(parts, store)
    check_disk(sum(itertools.compress(sizes, missing)), folder)
    total, done = dict.fromkeys(FACTS, 0.0), 0
    with shown_progress(quiet) as progress:
        for part, size, new in zip(parts, sizes, missing, strict=True):
            if new:
                result = _run(part.grid, options)
                new_lanes = tuple(part.own[axis] for axis in grid.shape)
                data = {name: values[new_lanes] for name, values in result.data.items()}
                # Lanes that overlap the previous slab are executed but not needed.
                steps_needed = int(data["steps"].sum(dtype="int64"))
                facts = {name: getattr(result, name) for name in FACTS} | {"steps_needed": steps_needed}
                store.write(part.place, data, facts)
            else:
                facts = store.check(part.place)
            total = {name: value + facts[name] for name, value in total.items()}
            done += size
            if progress is not None:
                progress(done, grid.size)
    store.finish()
    return store.lanes(), total | {"devices": devices}


def assist(parts: list[Slab], options: Facts) -> None:
    """Runs the missing slabs in a process other than the first, which stores them."""
    for part in itertools.compress(parts, _missing(parts)):
        _run(part.grid, options)


def check_disk(lanes: int, folder: Path, space: Literal["free", "total"] = "free") -> None:
    """Raises ``BadInput`` if lanes do not fit on the disk of a folder or of its first existing parent."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    room = getattr(shutil.disk_usage(existing), space)
    if lanes * LANE_BYTES > room:
        raise BadInput(
            f"grid must fit on the disk: {lanes:,} lanes need up to {lanes * LANE_BYTES / 1e9:,.0f} GB, "
            f"got {room / 1e9:,.0f} GB of {space} space"
        )


def _missing(parts: list[Slab], store: Store | None = None) -> list[bool]:
    """Returns the mask of slabs that are missing in the store of the first process."""
    import jax
    import numpy as np

    missing = np.asarray([store is None or not store.done(part.place) for part in parts])
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        missing = multihost_utils.broadcast_one_to_all(missing)
    return list(map(bool, missing))


def _run(grid: Grid, options: Facts) -> SweepResult:
    import jax

    from rvsmjax.sweep import run_sweep

    with mendable():
        try:
            # Without a progress callback: programs with callbacks are not cached on disk.
            return in_thread(lambda: run_sweep(grid, **options))
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            # Errors of the compiled program begin with a status name.
            if jax.process_count() == 1 or not re.match("[A-Z_]+: ", reason):
                raise
            raise BadInput(
                f"all {jax.process_count()} processes must run to the end, got a failure between them ({reason}); "
                "finished slabs are saved; run the same command to resume"
            ) from None
