"""Zarr data of a sweep, written at once or slab by slab."""

from __future__ import annotations

import json
import math
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from .folder import DONE, BadInput, write_whole

if TYPE_CHECKING:
    import zarr

CHUNK_BYTES = 16_000_000
FORMAT: Literal[2] = 2
"""Zarr format. Format 3 does not yet specify strings and consolidated metadata."""
DATA, READY = "data.zarr", "ready"
"""Folder of the lanes, and marker file that its arrays exist, next to the markers of the finished slabs."""


def write_zarr(lanes: xr.Dataset, folder: Path) -> None:
    """Writes the dataset with its labels as Zarr, to be read with ``xarray.open_zarr``."""
    lanes = lanes.assign_coords(penalty=lanes.penalty.astype(object))
    encoding = {name: {"chunks": chunks(variable)} for name, variable in lanes.data_vars.items() if variable.ndim}
    lanes.to_zarr(folder, mode="w-", encoding=encoding, zarr_format=FORMAT)


def chunks(variable: xr.DataArray) -> tuple[int, ...]:
    """Returns a chunk shape: the variable's shape, leading axes cut to at most ``CHUNK_BYTES`` per chunk."""
    shape = list(variable.shape)
    for axis in range(len(shape)):
        rest = variable.dtype.itemsize * math.prod(shape[axis + 1 :])
        shape[axis] = max(1, min(shape[axis], CHUNK_BYTES // rest))
        if rest <= CHUNK_BYTES:
            break
    return tuple(shape)


class Store:
    """Lanes of a sweep on disk, written slab by slab; finished slabs survive a kill of the process.

    Slabs do not share chunks. A slab is finished once all its chunks and a marker file with their checksums are
    written. The files do not depend on interruptions.

    Args:
      folder: folder of ``data.zarr`` and the markers.
      labels: coordinates and attributes of the whole dataset.
      shape: length of each dimension, in order.
      slab: length of each dimension of a slab.
    """

    def __init__(self, folder: Path, labels: xr.Dataset, shape: dict[str, int], slab: dict[str, int]) -> None:
        self.folder, self.labels, self.shape, self.slab = folder, labels, shape, slab
        if not (folder / DONE / READY).exists():
            shutil.rmtree(folder / DATA, ignore_errors=True)
            shutil.rmtree(folder / DONE, ignore_errors=True)

    def done(self, region: Mapping[str, slice]) -> bool:
        """Returns whether the slab is finished."""
        return self._mark(region).exists()

    def write(self, region: Mapping[str, slice], data: Mapping[str, np.ndarray], facts: Mapping[str, float]) -> None:
        """Writes a slab.

        Args:
          region: slices of the slab by dimension.
          data: its lanes.
          facts: its additive facts.

        Raises:
          BadInput: the slab cannot be written.
        """
        import zarr

        try:
            if not (self.folder / DONE / READY).exists():
                self._make(data)
            group = zarr.open_group(self.folder / DATA, mode="r+", zarr_format=FORMAT)
            index = tuple(region[dim] for dim in self.shape)
            for name, values in data.items():
                _array(group, name)[index] = values
            sums = {name: _checksum(values) for name, values in data.items()}
            write_whole(self._mark(region), json.dumps({"checksums": sums, "facts": dict(facts)}))
        except OSError as error:
            raise BadInput(
                f"{self.folder / DATA} could not be written ({error.strerror or error}); "
                "finished slabs are saved; run the same command to resume"
            ) from None

    def lanes(self) -> xr.Dataset:
        """Returns all lanes, read from disk on use."""
        return xr.open_zarr(self.folder / DATA, chunks=None, consolidated=False, zarr_format=FORMAT)

    def check(self, region: Mapping[str, slice]) -> dict[str, float]:
        """Verifies the checksums of a finished slab and returns its facts.

        Raises:
          BadInput: the data are not those that were written.
        """
        import zarr

        mark = json.loads(self._mark(region).read_text(encoding="utf-8"))
        want = mark["checksums"]
        try:
            group = zarr.open_group(self.folder / DATA, mode="r", zarr_format=FORMAT)
            index = tuple(region[dim] for dim in self.shape)
            altered = [name for name in want if _checksum(np.asarray(_array(group, name)[index])) != want[name]]
        except Exception as error:  # a codec may raise anything on corrupt bytes
            altered = [f"{type(error).__name__}: {error}"]
        if altered:
            self._mark(region).unlink()
            raise BadInput(
                f"{self.folder / DATA} must hold the data as written, got other bytes in {altered[0]} at seed "
                f"{region['seed'].start}; run the same command to recompute this slab"
            )
        return dict(mark["facts"])

    def finish(self) -> None:
        """Removes partial chunks and consolidates the metadata."""
        import zarr

        for path in (self.folder / DATA).glob("*/*.partial"):
            path.unlink()  # left by a killed process
        zarr.consolidate_metadata(self.folder / DATA, zarr_format=FORMAT)

    def _make(self, data: Mapping[str, np.ndarray]) -> None:
        import zarr

        shutil.rmtree(self.folder / DATA, ignore_errors=True)
        labels = self.labels.assign_coords(penalty=self.labels.penalty.astype(object))
        labels.to_zarr(self.folder / DATA, mode="w-", zarr_format=FORMAT, consolidated=False)
        group = zarr.open_group(self.folder / DATA, mode="r+", zarr_format=FORMAT)
        for name, values in data.items():
            group.create_array(
                name,
                shape=tuple(self.shape.values()),
                chunks=tuple(self.slab[dim] for dim in self.shape),
                dtype=values.dtype,
                fill_value=None,  # xarray would read any number here as a missing value
                attributes={"_ARRAY_DIMENSIONS": list(self.shape)},
            )
        (self.folder / DONE).mkdir(exist_ok=True)
        (self.folder / DONE / READY).touch()

    def _mark(self, region: Mapping[str, slice]) -> Path:
        return self.folder / DONE / "-".join(str(region[dim].start) for dim in self.shape)


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    import zarr

    array = group[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} must be an array, got {type(array).__name__}")
    return array


def _checksum(values: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(values).tobytes())
