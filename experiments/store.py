"""The full data of a sweep on disk."""

from __future__ import annotations

import math
from pathlib import Path

import xarray as xr

CHUNK_BYTES = 16_000_000


def write_zarr(lanes: xr.Dataset, folder: Path) -> None:
    """Writes the dataset with all its labels as Zarr (read it with ``xarray.open_zarr``)."""
    # Format 2: its text and its consolidated metadata are specified; those of format 3 are not yet.
    lanes = lanes.assign_coords(penalty=lanes.penalty.astype(object))
    encoding = {name: {"chunks": chunks(variable)} for name, variable in lanes.data_vars.items() if variable.ndim}
    lanes.to_zarr(folder, mode="w-", encoding=encoding, zarr_format=2)


def chunks(variable: xr.DataArray) -> tuple[int, ...]:
    """Returns the variable's shape, its leading axes cut until a piece has at most ``CHUNK_BYTES``."""
    shape = list(variable.shape)
    for axis in range(len(shape)):
        rest = variable.dtype.itemsize * math.prod(shape[axis + 1 :])
        shape[axis] = max(1, min(shape[axis], CHUNK_BYTES // rest))
        if rest <= CHUNK_BYTES:
            break
    return tuple(shape)
