"""Tables 1, 2 and 3 of arXiv 1812.05719, and beyond: k = 5, 10, 20, and any axis of the grid.

Command: ``make sweep``, or ``python -m experiments sweep``.

Expected at the defaults (600,000 lanes): every lane converges and keeps bound (13); of the 60 printed values in rows
θ(ū,w*), f(ū), f(ū/‖ū‖) and d − ‖ū‖₀, 54 lie inside the range of our draws and 51 within two standard deviations (l1 at
d = 10 and 20 lies outside); rows θ(w̄,w*) and f(w̄) cannot be those of limits. About one minute on two cores.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from experiments.cli.flags import (
    HOW,
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
from experiments.cli.interrupts import mendable
from experiments.cli.runner import conduct
from experiments.records.environment import Clock
from experiments.records.folder import BadInput
from experiments.studies.one_layer import slabs

SLAB = {True: 200_000, False: 4_000_000}
"""Lanes of a slab, by whether it is computed on CPUs."""


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

        from experiments.studies.one_layer.output import how_it_went, write_summary
        from experiments.studies.sweep.report import sweep_sections
        from rvsmjax import sweep

        axes = ["penalty", "d", "k", "lam", "beta", "a", "learning_rate", "normalize", "seeds"]
        with mendable():
            grid = sweep.Grid(**{name: getattr(config, name) for name in axes})
        slabs.check_disk(grid.size, config.out or Path("results"), "total")
        on_cpu = jax.devices()[0].platform == "cpu"
        parts = sweep.slabs(grid, config.slab or SLAB[on_cpu])
        key = jax.random.key(config.key)
        options = {"key": key, "tol": config.tol, "max_steps": config.max_steps, "dtype": config.precision}

    if jax.process_index() > 0:
        slabs.assist(parts, options)
        return Path()

    def work(folder: Path) -> tuple[dict[str, Any], Any]:
        lanes, facts = slabs.compute(folder, grid, parts, options, config.quiet)
        clock.seconds |= {"compilation": facts["compile_seconds"], "run": facts["run_seconds"]}
        with clock.phase("report"):
            places = [part.place for part in parts]
            summary, figures = write_summary(folder, lanes, places)
        return how_it_went(grid.size, facts, summary), lambda facts: sweep_sections(summary, facts, figures)

    asked = {name: value for name, value in dataclasses.asdict(config).items() if name not in HOW}
    bits = {"jax": jax.__version__, "devices": [device.device_kind for device in jax.local_devices()[:1]]}
    settings = asked | bits if len(parts) > 1 else None
    return conduct("sweep", "RVSM on the one-layer network", config, console, clock, work, settings)
