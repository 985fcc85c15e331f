"""Figure 4 of the Frontiers paper on RVSCGD, and tables beyond it: binarized activation, coarse gradient descent.

Command: ``python -m experiments binary``.

Expected at the defaults (600,000 lanes, and 50 runs of Figure 4 in steps of η = 1e-5, all in float64): every lane and
every run converges, a lane in 24 steps of the largest η, a run of the figure in 782,000; (c/2) sin θ = β‖ū‖ sin γ to
1e-11 in every lane; in half of the runs the Lagrangian rises after its minimum, which the paper's Theorem 1 denies.
Half a minute on two cores.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from experiments.cli.flags import CommonFlags, Names, Numbers, Rates, Steps, Tolerance, WholeNumber, WholeNumbers
from experiments.cli.interrupts import in_thread, mendable, shown_progress
from experiments.cli.runner import conduct
from experiments.records.environment import Clock
from experiments.records.folder import BadInput
from experiments.studies.one_layer.slabs import FACTS

if TYPE_CHECKING:
    import xarray as xr

    from rvsmjax.sweep import SweepResult

MOST_FOLLOWED = 4000
"""Seeds whose Lagrangian is followed step by step."""


@dataclasses.dataclass(frozen=True)
class BinaryConfig(CommonFlags):
    """Run RVSCGD on the one-layer network with binary activation: the paper's Figure 4, and a grid to convergence.

    Flags in the plural take one value or more; the grid is every combination.
    """

    penalty: Names = ("l1", "l0", "tl1")
    """Penalties: l1, l0, tl1."""
    d: WholeNumbers = (10, 20, 50, 100)
    """Dimensions of w; the paper has 50."""
    k: WholeNumbers = (1, 2, 5, 20, 50)
    """Numbers of patches; the paper has 20."""
    lam: Numbers = (1e-4,)
    """λ, weight of the penalty."""
    beta: Numbers = (4e-3,)
    """β, weight of the splitting."""
    a: Numbers = (1.0,)
    """Shapes of tl1."""
    learning_rate: Rates = None
    """Learning rates η of the grid; Figure 4 has the paper's."""
    seeds: WholeNumber = 10_000
    """Random problems in each cell."""
    tol: Tolerance = None
    """Residual at which a lane has converged."""
    max_steps: Steps = 100_000
    """Steps after which a lane is given up."""
    figure_runs: WholeNumber = 50
    """Random starts followed for Figure 4."""
    figure_steps: Steps = 800_000
    """Steps after which a run of Figure 4 is cut off."""
    precision: Literal["float32", "float64"] = "float64"
    """Floating point numbers of the grid; Figure 4 needs float64."""
    quick: bool = False
    """Small sizes (d 10, k 1 20, 50 seeds, 3 runs of 20,000 steps) where no flag says otherwise."""

    @classmethod
    def small(cls) -> BinaryConfig:
        """Returns the defaults of ``--quick``."""
        return cls(d=(10,), k=(1, 20), seeds=50, figure_runs=3, figure_steps=20_000)

    def resolved(self) -> BinaryConfig:
        """Returns the config with the tolerance filled in; ``learning_rate`` None stays: it depends on k and β."""
        tol = self.tol if self.tol is not None else {"float32": 1e-6, "float64": 1e-12}[self.precision]
        return dataclasses.replace(self, tol=tol)


def run(config: BinaryConfig, console: Console, clock: Clock) -> Path:
    """Runs the grid and the figure's runs and returns the folder of their record.

    Raises:
      BadInput: anything in ``config`` that the user can mend.
    """
    config = config.resolved()
    for name in ("figure_runs", "figure_steps"):
        if getattr(config, name) < 1:
            raise BadInput(f"{name} must be a whole number >= 1, got {getattr(config, name)}")
    with clock.phase("set-up"):
        import jax

        from experiments.reports import style
        from experiments.studies.binary import figures as binary_plots
        from experiments.studies.binary import report as binary_report
        from experiments.studies.binary import simulate as binary_data
        from experiments.studies.one_layer.output import how_it_went, write_data
        from rvsmjax.sweep import Grid, run_sweep

        axes = ["penalty", "d", "k", "lam", "beta", "a", "learning_rate", "seeds"]
        with mendable():
            grid = Grid(**{name: getattr(config, name) for name in axes}, activation="binary")

    def sweep(progress: Any) -> tuple[SweepResult, xr.Dataset]:
        with jax.enable_x64(config.precision == "float64"):
            key, options = jax.random.key(config.key), {"tol": config.tol, "max_steps": config.max_steps}
            result = run_sweep(grid, key, dtype=config.precision, progress=progress, **options)
            return result, result.to_xarray()

    def work(folder: Path) -> tuple[dict[str, Any], Any]:
        with shown_progress(config.quiet) as progress, mendable():
            result, lanes = in_thread(lambda: sweep(progress))
        clock.seconds |= {"compilation": result.compile_seconds, "run": result.run_seconds}
        with clock.phase("figure 4"):
            descents = in_thread(lambda: binary_data.descents(config.key, config.figure_runs, config.figure_steps))
            count = min(config.seeds, MOST_FOLLOWED)
            many = in_thread(lambda: [binary_data.many(config.key, count, penalty) for penalty in grid.axes.penalty])
        with clock.phase("report"):
            summary, figures = write_data(folder, lanes)
            descents.drop_vars(["steps", "converged"]).to_dataframe().to_csv(folder / "figure_4.csv")
            style.save(binary_plots.figure_4(descents), folder, "figure_4")
        facts = {name: getattr(result, name) for name in ("devices", *FACTS)}
        return how_it_went(grid.size, facts, summary), lambda facts: binary_report.sections(
            lanes, summary, descents, many, facts, figures
        )

    return conduct("binary", "RVSCGD on the one-layer network", config, console, clock, work)
