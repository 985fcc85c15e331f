"""A grid computed slab by slab into its store, by one process or several."""

from __future__ import annotations

import itertools
import math
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...cli.interrupts import in_thread, mendable, shown_progress
from ...records.folder import BadInput, Facts

if TYPE_CHECKING:
    import xarray as xr

    from rvsmjax.sweep import Grid, Slab, SweepResult

    from ...records.zarr_store import Store

FACTS = ("compile_seconds", "run_seconds", "steps_executed", "steps_needed")
"""What a sweep tells of its run, apart from its lanes; it adds up over slabs."""
LANE_BYTES = 11 * 8 + 4 + 4 + 1
"""Of a lane on disk, at most."""


def compute(folder: Path, grid: Grid, parts: list[Slab], options: Facts, quiet: bool) -> tuple[xr.Dataset, Facts]:
    """Returns the lanes on disk, slab by slab computed unless they are there, and what adds up over the slabs.

    Args:
      folder: of the store.
      grid: the whole.
      parts: its slabs.
      options: of ``run_sweep``; ``tol`` among them.
      quiet: whether no progress is shown.

    Raises:
      BadInput: an invalid flag.
    """
    import jax

    from rvsmjax.sweep import labels

    from ...records.zarr_store import Store

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
                own = tuple(part.own[axis] for axis in grid.shape)
                data = {name: values[own] for name, values in result.data.items()}
                # Lanes that stand in the slab before, too, are run, not needed.
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
    """Does the share of a process that is not the first in what the first computes."""
    for part in itertools.compress(parts, _missing(parts)):
        _run(part.grid, options)


def check_disk(lanes: int, folder: Path, space: Literal["free", "total"] = "free") -> None:
    """Raises ``BadInput`` where lanes would not fit on the disk of a folder, or of the parent that is there."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    room = getattr(shutil.disk_usage(there), space)
    if lanes * LANE_BYTES > room:
        raise BadInput(
            f"grid must fit on the disk: {lanes:,} lanes need up to {lanes * LANE_BYTES / 1e9:,.0f} GB, "
            f"got {room / 1e9:,.0f} GB of {space} space"
        )


def _missing(parts: list[Slab], store: Store | None = None) -> list[bool]:
    """Tells which slabs are not in the store of the first process."""
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
            # No progress from within: a program that calls back is not kept for the next start.
            return in_thread(lambda: run_sweep(grid, **options))
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            # What comes out of the compiled program begins with the name of a status.
            if jax.process_count() == 1 or not re.match("[A-Z_]+: ", reason):
                raise
            raise BadInput(
                f"all {jax.process_count()} processes must live to the end, got a failure between them ({reason}); the "
                "slabs before are kept, the same command goes on from there"
            ) from None
