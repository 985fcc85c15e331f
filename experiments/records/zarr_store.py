"""The full data of a sweep on disk, written whole or slab by slab."""

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
"""Of Zarr: its text and its consolidated metadata are specified; those of format 3 are not yet."""
DATA, READY = "data.zarr", "ready"
"""The lanes; the mark that their arrays have been made, beside those of the slabs that are done."""


def write_zarr(lanes: xr.Dataset, folder: Path) -> None:
    """Writes the dataset with all its labels as Zarr (read it with ``xarray.open_zarr``)."""
    lanes = lanes.assign_coords(penalty=lanes.penalty.astype(object))
    encoding = {name: {"chunks": chunks(variable)} for name, variable in lanes.data_vars.items() if variable.ndim}
    lanes.to_zarr(folder, mode="w-", encoding=encoding, zarr_format=FORMAT)


def chunks(variable: xr.DataArray) -> tuple[int, ...]:
    """Returns the variable's shape, its leading axes cut until a piece has at most ``CHUNK_BYTES``."""
    shape = list(variable.shape)
    for axis in range(len(shape)):
        rest = variable.dtype.itemsize * math.prod(shape[axis + 1 :])
        shape[axis] = max(1, min(shape[axis], CHUNK_BYTES // rest))
        if rest <= CHUNK_BYTES:
            break
    return tuple(shape)


class Store:
    """The lanes of a sweep, filled slab by slab; what is done is known even if the process is killed.

    A slab has chunks of its own. It counts as done when all of them are written, and with the checksums of what was
    written. The same slabs make the same files, however often the process was interrupted.

    Args:
      folder: holds ``data.zarr`` and, until it is a record, what is known of it.
      labels: coordinates and attributes of the whole.
      shape: length of each dimension, in order.
      slab: length of each dimension of a slab.
    """

    def __init__(self, folder: Path, labels: xr.Dataset, shape: dict[str, int], slab: dict[str, int]) -> None:
        self.folder, self.labels, self.shape, self.slab = folder, labels, shape, slab
        if not (folder / DONE / READY).exists():
            shutil.rmtree(folder / DATA, ignore_errors=True)
            shutil.rmtree(folder / DONE, ignore_errors=True)

    def done(self, place: Mapping[str, slice]) -> bool:
        """Tells whether the slab at a place is there."""
        return self._mark(place).exists()

    def write(self, place: Mapping[str, slice], data: Mapping[str, np.ndarray], facts: Mapping[str, float]) -> None:
        """Writes the slab at a place.

        Args:
          place: of the slab.
          data: its lanes.
          facts: numbers of it that add up.

        Raises:
          BadInput: it could not be written.
        """
        import zarr

        try:
            if not (self.folder / DONE / READY).exists():
                self._make(data)
            group = zarr.open_group(self.folder / DATA, mode="r+", zarr_format=FORMAT)
            where = tuple(place[dim] for dim in self.shape)
            for name, values in data.items():
                _array(group, name)[where] = values
            mark = self._mark(place)
            sums = {name: _checksum(values) for name, values in data.items()}
            write_whole(mark, json.dumps({"checksums": sums, "facts": dict(facts)}))
        except OSError as error:
            raise BadInput(
                f"{self.folder / DATA} could not be written ({error.strerror or error}); the slabs before are kept, "
                "the same command goes on from there"
            ) from None

    def lanes(self) -> xr.Dataset:
        """Returns all lanes, read from the disk when they are used."""
        return xr.open_zarr(self.folder / DATA, chunks=None, consolidated=False, zarr_format=FORMAT)

    def check(self, place: Mapping[str, slice]) -> dict[str, float]:
        """Returns the facts of a slab that is done, and reads it.

        Raises:
          BadInput: it is not what was written.
        """
        import zarr

        mark = json.loads(self._mark(place).read_text(encoding="utf-8"))
        want = mark["checksums"]
        try:
            group = zarr.open_group(self.folder / DATA, mode="r", zarr_format=FORMAT)
            where = tuple(place[dim] for dim in self.shape)
            altered = [name for name in want if _checksum(np.asarray(_array(group, name)[where])) != want[name]]
        except Exception as error:  # whatever a codec makes of bytes that are not its own
            altered = [f"{type(error).__name__}: {error}"]
        if altered:
            self._mark(place).unlink()
            raise BadInput(
                f"{self.folder / DATA} must hold what was written to it, got other bytes in {altered[0]} at seed "
                f"{place['seed'].start}; the same command computes that slab anew"
            )
        return dict(mark["facts"])

    def finish(self) -> None:
        """Makes the data complete for readers."""
        import zarr

        for path in (self.folder / DATA).glob("*/*.partial"):
            path.unlink()  # of chunks that a process was killed in
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
                fill_value=None,  # any number here would read as a missing value
                attributes={"_ARRAY_DIMENSIONS": list(self.shape)},
            )
        (self.folder / DONE).mkdir(exist_ok=True)
        (self.folder / DONE / READY).touch()

    def _mark(self, place: Mapping[str, slice]) -> Path:
        return self.folder / DONE / "-".join(str(place[dim].start) for dim in self.shape)


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    import zarr

    array = group[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} must be an array, got {type(array).__name__}")
    return array


def _checksum(values: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(values).tobytes())
