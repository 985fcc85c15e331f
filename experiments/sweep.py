"""Tables 1, 2 and 3 of arXiv 1812.05719, and beyond: k = 5, 10, 20, and any axis of the grid.

Command: ``make sweep``, or ``python -m experiments sweep``.

Expected at the defaults (600,000 lanes): every lane converges and keeps bound (13); of the 60 printed values in rows
θ(ū,w*), f(ū), f(ū/‖ū‖) and d − ‖ū‖₀, 54 lie inside the range of our draws and 51 within two standard deviations (l1 at
d = 10 and 20 lies outside); rows θ(w̄,w*) and f(w̄) cannot be those of limits. About one minute on two cores.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.flags import Booleans, CommonFlags, Names, Numbers, Rates, Steps, Tolerance, WholeNumber, WholeNumbers
from experiments.record import BadInput
from experiments.study import conduct
from experiments.surroundings import Clock

if TYPE_CHECKING:
    import xarray as xr

    from rvsmjax.sweep import SweepResult

STATUS = ("converged", "step cap", "diverged")


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
    """Runs the sweep and returns the folder of its record.

    Raises:
      BadInput: anything in ``config`` that the user can mend.
    """
    config = config.resolved()
    with clock.phase("set-up"):
        import jax

        from experiments.report import sweep_sections
        from rvsmjax.sweep import Grid, run_sweep

        axes = ["penalty", "d", "k", "lam", "beta", "a", "learning_rate", "normalize", "seeds"]
        with mendable():
            grid = Grid(**{name: getattr(config, name) for name in axes})

    def work(folder: Path) -> tuple[dict[str, Any], Any]:
        with shown_progress(config.quiet) as progress, mendable():
            result = in_thread(
                lambda: run_sweep(
                    grid,
                    jax.random.key(config.key),
                    tol=config.tol,
                    max_steps=config.max_steps,
                    dtype=config.precision,
                    progress=progress,
                )
            )
        clock.seconds |= {"compilation": result.compile_seconds, "run": result.run_seconds}
        with clock.phase("report"):
            lanes = result.to_xarray()
            summary, figures = write_data(folder, lanes)
        return how_it_went(result, lanes), lambda facts: sweep_sections(lanes, summary, facts, figures)

    return conduct("sweep", "RVSM on the one-layer network", config, console, clock, work)


def how_it_went(result: SweepResult, lanes: xr.Dataset) -> dict[str, Any]:
    """Returns what a record tells of the call: devices, how lanes ended, learning rates, steps, speed."""
    return {
        "devices": list(result.devices),
        "lanes": result.grid.size,
        "status": {name: int((lanes.status == code).sum()) for code, name in enumerate(STATUS)},
        "learning_rate_used": lanes.eta.values.tolist(),
        "steps": {
            "executed": result.steps_executed,
            "needed": result.steps_needed,
            "waste": result.steps_executed / max(result.steps_needed, 1),
        },
        "lanes_per_second": result.grid.size / result.run_seconds,
    }


def write_data(folder: Path, lanes: xr.Dataset) -> tuple[xr.Dataset, list[str]]:
    """Writes data, statistics and figures; returns the statistics and the figures' names."""
    from experiments import plots
    from experiments.store import write_zarr
    from experiments.summary import summarize, to_frame

    summary = summarize(lanes)
    to_frame(summary).to_csv(folder / "summary.csv", index=False)
    write_zarr(lanes, folder / "data.zarr")
    figures = plots.sweep_figures(lanes)
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
