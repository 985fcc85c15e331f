"""Result of a sweep: labelled arrays over the grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from rvsmjax.penalties import Penalty
from rvsmjax.solve import Status
from rvsmjax.sweep.grid import Grid, labelled

if TYPE_CHECKING:
    import pandas
    import xarray


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """The limit of every lane of a grid.

    Attributes:
      grid: the grid.
      data: NumPy arrays of shape ``grid.shape``: the fields of ``certificate.Certificate``, or what a ``Problem``
        measures, with its axes last; ``steps`` and ``status`` (a ``Status``). Diverged lanes hold NaN.
      tol: tolerance of the run.
      compile_seconds: time to trace and compile; 0 if the program was cached.
      run_seconds: time of the call.
      steps_executed: lane-steps run, including those of finished lanes that waited for their tile.
      devices: platform and kind of each device used.
    """

    grid: Grid
    data: dict[str, np.ndarray]
    tol: float
    compile_seconds: float
    run_seconds: float
    steps_executed: int
    devices: tuple[str, ...]

    @property
    def steps_needed(self) -> int:
        """Lane-steps until each lane finished; ``steps_executed / steps_needed`` measures the overhead."""
        return int(self.data["steps"].sum(dtype=np.int64))

    @property
    def counts(self) -> dict[str, int]:
        """Number of lanes by final status."""
        return {status.name.lower(): int((self.data["status"] == status).sum()) for status in Status}

    def to_xarray(self) -> xarray.Dataset:
        """Returns the data as an ``xarray.Dataset`` with the grid's values as coordinates.

        The coordinate ``a`` along ``penalty`` is the shape parameter of transformed l1, NaN for other penalties.
        ``learning_rate`` is NaN for the largest rate that the theorem allows; the variable ``eta`` holds the rate used,
        over beta and learning_rate, and over k too if the largest rate depends on it. Custom axes follow; with a
        ``Problem`` there are no others.

        Raises:
          ImportError: xarray is not installed; the extra ``experiments`` installs it.
        """
        labelled = labels(self.grid, self.tol)
        dims = tuple(self.grid.shape)
        trailing = {name: [f"{name}_{i}" for i in range(x.ndim - len(dims))] for name, x in self.data.items()}
        dataset = labelled.assign({name: ((*dims, *trailing[name]), values) for name, values in self.data.items()})
        dataset["status"].attrs["meaning"] = STATUS_MEANING
        return dataset

    def summary(self, *names: str) -> pandas.DataFrame:
        """Returns means over the seeds and their standard errors, a row for each combination of the other axes.

        Axes of one value are left out, and diverged lanes do not count. The standard error of a mean, in the column
        named ``±`` behind it, is NaN with fewer than two lanes.

        Args:
          *names: measures, keys of ``data`` with one number a lane; default all of them but ``status``.

        Raises:
          ImportError: xarray is not installed; the extra ``experiments`` installs it.
          ValueError: if there is no such measure, or it has several numbers a lane.
        """
        rank = len(self.grid.shape)
        known = [name for name, x in self.data.items() if x.ndim == rank and name != "status"]
        for name in names:
            if name not in known:
                raise ValueError(f"names must be among {', '.join(known)}, got {name!r}")
        chosen = self.to_xarray()[list(names or known)].where(self.data["status"] != Status.DIVERGED)
        means, errors = chosen.mean("seed"), chosen.std("seed", ddof=1) / np.sqrt(chosen.count("seed"))
        columns = {f"{name}{sign}": table[name] for name in chosen for sign, table in (("", means), (" ±", errors))}
        table = means.assign(columns).squeeze(drop=True)
        # pandas has no table without an axis.
        table = table if table.dims else table.expand_dims({"": [""]})
        return table.to_dataframe()[list(columns)]


STATUS_MEANING = ", ".join(f"{s.value}: {s.name.lower()}" for s in Status)


def labels(grid: Grid, tol: float) -> xarray.Dataset:
    """Returns the part of ``SweepResult.to_xarray`` known before a run: coordinates, ``eta`` and attributes."""
    try:
        import xarray
    except ImportError as error:
        raise ImportError("to_xarray needs xarray: install rvsmjax[experiments]") from error
    custom = {name: _coordinate(values) for name, values in grid.axes.items()} | {"seed": np.asarray(grid.seeds)}
    attributes = {"tol": tol, "jax": jax.__version__}
    if grid.problem is not None:
        return xarray.Dataset(coords=custom, attrs={"problem": type(grid.problem).__name__} | attributes)
    axes = grid.values
    # Shape (beta,) if the largest rate is the same for every k, else (k, beta).
    problem = grid.factory(np.asarray(axes.k)[:, None])
    largest = np.asarray(problem.largest_learning_rate(np.asarray(axes.beta)), float)[..., None]
    rates = np.asarray([np.nan] if axes.learning_rate is None else axes.learning_rate, float)
    shapes = [getattr(penalty, "a", np.nan) for penalty in axes.penalty]
    return xarray.Dataset(
        {"eta": (("k", "beta", "learning_rate")[-largest.ndim :], np.where(np.isnan(rates), largest, rates))},
        coords={
            "penalty": np.asarray(grid.labels, object),
            "a": ("penalty", np.asarray(shapes, float)),
            **{name: np.asarray(getattr(axes, name)) for name in ("d", "k", "lam", "beta")},
            "learning_rate": rates,
            "normalize": np.asarray(axes.normalize),
            **custom,
        },
        attrs={"activation": grid.factory.name} | attributes,
    )


def _coordinate(values: Sequence[Any]) -> np.ndarray:
    if all(isinstance(value, Penalty) for value in values):
        return np.asarray(labelled(values), object)
    if all(isinstance(value, bool | int | float) for value in values):
        return np.asarray(values)
    return np.asarray([str(value) for value in values], object)
