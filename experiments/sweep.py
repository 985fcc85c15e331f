"""Tables 1, 2 and 3 of arXiv 1812.05719, and beyond: k = 5, 10, 20, and any axis of the grid.

Command: ``make sweep``, or ``python -m experiments sweep``.

Expected at the defaults (600,000 lanes): every lane converges and keeps bound (13); of the 60 printed values in rows
θ(ū,w*), f(ū), f(ū/‖ū‖) and d − ‖ū‖₀, 54 lie inside the range of our draws and 51 within two standard deviations (l1 at
d = 10 and 20 lies outside); rows θ(w̄,w*) and f(w̄) cannot be those of limits. About one minute on two cores.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.flags import (
    Booleans,
    CommonFlags,
    Lanes,
    Names,
    Numbers,
    Rates,
    Steps,
    Tolerance,
    WholeNumber,
    WholeNumbers,
)
from experiments.record import BadInput
from experiments.study import conduct
from experiments.surroundings import Clock

if TYPE_CHECKING:
    import xarray as xr

    from experiments.store import Store
    from rvsmjax.sweep import Grid, Slab, SweepResult

FIGURE_LANES = 2_000_000
"""Lanes that the figures show, at most: those of the first seeds of each cell."""
FACTS = ("compile_seconds", "run_seconds", "steps_executed", "steps_needed")
"""What a sweep tells of its run, apart from its lanes; it adds up over slabs."""
SLAB = {True: 200_000, False: 4_000_000}
"""Lanes of a slab, by whether it is computed on CPUs."""
LANE_BYTES = 11 * 8 + 4 + 4 + 1
"""Of a lane on disk, at most."""


@dataclasses.dataclass(frozen=True)
class SweepConfig(CommonFlags):
    """Run the one-layer study: random problems over a grid, to convergence, beside the paper's Tables 1 to 3.

    Flags in the plural take one value or more; the grid is every combination.
    """

    penalty: Names = ("l1", "l0", "tl1")
    """Penalties: l1, l0, tl1."""
    d: WholeNumbers = (10, 20, 30, 40, 50)
    """Dimensions of w."""
    k: WholeNumbers = (2, 5, 10, 20)
    """Numbers of patches; the paper has 2."""
    lam: Numbers = (1e-4,)
    """λ, weight of the penalty."""
    beta: Numbers = (4e-3,)
    """β, weight of the splitting."""
    a: Numbers = (1.0,)
    """Shapes of tl1."""
    learning_rate: Rates = None
    """Learning rates η."""
    normalize: Booleans = (True,)
    """Whether w goes back to the sphere after each step; True False runs both."""
    seeds: WholeNumber = 10_000
    """Random problems in each cell."""
    tol: Tolerance = None
    """Residual at which a lane has converged."""
    max_steps: Steps = 100_000
    """Steps after which a lane is given up."""
    precision: Literal["float32", "float64"] = "float32"
    """Floating point numbers."""
    slab: Lanes = None
    """Lanes computed and written at a time. A larger grid goes on from its last slab when it was interrupted."""
    coordinator: str = ""
    """Of a run by several processes: HOST:PORT of the first, or auto where SLURM, a TPU pod or Kubernetes tells."""
    processes: WholeNumber = 1
    """With HOST:PORT, how many there are."""
    process: WholeNumber = 0
    """And which of them this is, from 0; the first alone writes a record."""
    quick: bool = False
    """Small sizes (d 10 20, k 2, 100 seeds) where no flag says otherwise."""

    @classmethod
    def small(cls) -> SweepConfig:
        """Returns the defaults of ``--quick``."""
        return cls(d=(10, 20), k=(2,), seeds=100)

    def resolved(self) -> SweepConfig:
        """Returns the config with the tolerance filled in; ``learning_rate`` None stays: it depends on β."""
        tol = self.tol if self.tol is not None else {"float32": 1e-6, "float64": 1e-12}[self.precision]
        return dataclasses.replace(self, tol=tol)


def run(config: SweepConfig, console: Console, clock: Clock) -> Path:
    """Runs the sweep and returns the folder of its record, which the first of several processes alone writes.

    Raises:
      BadInput: anything in ``config`` that the user can mend.
    """
    config = config.resolved()
    for name in ("slab", "processes"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise BadInput(f"{name} must be a whole number >= 1, got {value}")
    with clock.phase("set-up"):
        import jax

        from experiments.report import HOW, sweep_sections
        from rvsmjax.sweep import Grid, slabs

        axes = ["penalty", "d", "k", "lam", "beta", "a", "learning_rate", "normalize", "seeds"]
        with mendable():
            grid = Grid(**{name: getattr(config, name) for name in axes})
        _check_disk(grid.size, config.out)
        on_cpu = jax.devices()[0].platform == "cpu"
        parts = slabs(grid, config.slab or SLAB[on_cpu])

    if jax.process_index() > 0:
        for part in _needed(parts):
            _run(part.grid, config)
        return Path()

    def work(folder: Path) -> tuple[dict[str, Any], Any]:
        lanes, facts = compute(folder, grid, parts, config)
        clock.seconds |= {"compilation": facts["compile_seconds"], "run": facts["run_seconds"]}
        with clock.phase("report"):
            places = [part.place for part in parts]
            summary, figures = write_summary(folder, lanes, places)
        return how_it_went(grid.size, facts, summary), lambda facts: sweep_sections(summary, facts, figures)

    asked = {name: value for name, value in dataclasses.asdict(config).items() if name not in HOW}
    bits = {"jax": jax.__version__, "devices": [device.device_kind for device in jax.local_devices()[:1]]}
    settings = asked | bits if len(parts) > 1 else None
    return conduct("sweep", "RVSM on the one-layer network", config, console, clock, work, settings)


def compute(folder: Path, grid: Grid, parts: list[Slab], config: SweepConfig) -> tuple[xr.Dataset, dict[str, Any]]:
    """Returns the lanes on disk, slab by slab computed unless they are there, and what adds up over the slabs."""
    import jax

    from experiments.store import Store
    from rvsmjax.sweep.result import labels

    store = Store(folder, labels(grid, config.tol), grid.shape, parts[0].grid.shape)
    devices = [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
    needed = {id(part) for part in _needed(parts, store)}
    total, done = dict.fromkeys(FACTS, 0.0), 0
    with shown_progress(config.quiet) as progress:
        for part in parts:
            if id(part) in needed:
                result = _run(part.grid, config)
                own = tuple(part.own[axis] for axis in grid.shape)
                data = {name: values[own] for name, values in result.data.items()}
                facts = {name: getattr(result, name) for name in FACTS}
                # Lanes that stand in the slab before, too, are run, not needed.
                store.write(part.place, data, facts | {"steps_needed": int(data["steps"].sum(dtype="int64"))})
            found = store.check(part.place)
            total = {name: value + found[name] for name, value in total.items()}
            done += math.prod(place.stop - place.start for place in part.place.values())
            if progress is not None:
                progress(done, grid.size)
    store.finish()
    return store.lanes(), total | {"devices": devices}


def _needed(parts: list[Slab], store: Store | None = None) -> list[Slab]:
    """Returns the slabs that are not in the store of the first process."""
    import jax
    import numpy as np

    todo = np.asarray([store is None or not store.done(part.place) for part in parts])
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        todo = multihost_utils.broadcast_one_to_all(todo)
    return [part for part, wanted in zip(parts, todo, strict=True) if wanted]


def _run(grid: Grid, config: SweepConfig) -> SweepResult:
    import jax

    from rvsmjax.sweep import run_sweep

    # No progress from within: a program that calls back is not kept for the next start.
    options = {"tol": config.tol, "max_steps": config.max_steps, "dtype": config.precision}
    with mendable():
        try:
            return in_thread(lambda: run_sweep(grid, jax.random.key(config.key), **options))
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            # What comes out of the compiled program begins with the name of a status.
            if jax.process_count() == 1 or not re.match("[A-Z_]+: ", reason):
                raise
            raise BadInput(
                f"all {jax.process_count()} processes must live to the end, got a failure between them ({reason}); the "
                "slabs before are kept, the same command goes on from there"
            ) from None


def _check_disk(lanes: int, out: Path | None) -> None:
    """Raises ``BadInput`` where the data would not fit on the disk of the record."""
    place = (out or Path("results")).absolute()
    free = shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.is_dir())).free
    if lanes * LANE_BYTES > free:
        raise BadInput(
            f"grid must fit on the disk: {lanes:,} lanes need up to {lanes * LANE_BYTES / 1e9:,.0f} GB, "
            f"{free / 1e9:,.0f} GB are free"
        )


def how_it_went(lanes: int, facts: dict[str, Any], summary: xr.Dataset) -> dict[str, Any]:
    """Returns what a record tells of the run: devices, how lanes ended, learning rates, steps, speed.

    Args:
      lanes: how many.
      facts: ``devices`` and ``FACTS``.
      summary: statistics.
    """
    executed, needed = int(facts["steps_executed"]), int(facts["steps_needed"])
    return {
        "devices": list(facts["devices"]),
        "lanes": lanes,
        "status": {str(name): int(summary.endings.sel(ending=name).sum()) for name in summary.ending.values},
        "learning_rate_used": summary.eta.values.tolist(),
        "steps": {
            "executed": executed,
            "needed": needed,
            "waste": executed / max(needed, 1),
        },
        "lanes_per_second": lanes / facts["run_seconds"],
    }


def write_data(folder: Path, lanes: xr.Dataset) -> tuple[xr.Dataset, list[str]]:
    """Writes data, statistics and figures; returns the statistics and the figures' names."""
    from experiments.store import write_zarr

    write_zarr(lanes, folder / "data.zarr")
    return write_summary(folder, lanes)


def write_summary(
    folder: Path, lanes: xr.Dataset, places: Sequence[Mapping[str, slice]] = ({},)
) -> tuple[xr.Dataset, list[str]]:
    """Writes statistics and figures and returns the statistics and the figures' names; ``places`` of ``summarize``."""
    from experiments import plots
    from experiments.summary import summarize, to_frame

    summary = summarize(lanes, places)
    to_frame(summary).to_csv(folder / "summary.csv", index=False)
    cells = math.prod(lanes.sizes.values()) // lanes.sizes["seed"]
    figures = plots.sweep_figures(lanes.isel(seed=slice(0, max(1, FIGURE_LANES // cells))).load())
    for name, figure in figures.items():
        plots.save(figure, folder, name)
    return summary, list(figures)


def in_thread(work: Callable[[], Any]) -> Any:
    """Returns ``work()``, run in another thread: this one stays free for Ctrl-C, which compiled code would hold up."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if failure:
        raise failure[0]
    return outcome[0]


@contextlib.contextmanager
def mendable() -> Iterator[None]:
    """Turns the library's complaints about arguments, and a device's about its memory, into ``BadInput``."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise BadInput(str(error)) from error
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise BadInput(f"grid must fit in memory: {error}") from error


@contextlib.contextmanager
def shown_progress(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yields what shows progress on a terminal; None elsewhere."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Compiling", total=None)
        yield lambda done, total: bar.update(task, description="Lanes", completed=done, total=total)
