"""Flags of ``sweep``."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

from ...cli.command import Command
from ...cli.estimate import MEASURED_ON, Plan
from ...cli.flags import (
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
from ...records.environment import usable_cores

if TYPE_CHECKING:
    from rvsmjax.sweep import Grid

UPDATES_PER_SECOND = 4e9
"""Component updates per second of a sweep in float32 on two cores; half of that in float64."""
SLAB = {True: 200_000, False: 4_000_000}
"""Default lanes per slab, by whether the device is a CPU."""


@dataclasses.dataclass(frozen=True)
class SweepConfig(CommonFlags):
    """Run random one-layer problems over a grid to convergence and compare them with the paper's Tables 1 to 3.

    The grid is all combinations of the values of the flags.
    """

    penalty: Names = ("l1", "l0", "tl1")
    """Penalties: l1, l0, tl1, or a class as MODULE:CLASS."""
    d: WholeNumbers = (10, 20, 30, 40, 50)
    """Dimensions of w."""
    k: WholeNumbers = (2, 5, 10, 20)
    """Numbers of patches; 2 in the paper."""
    lam: Numbers = (1e-4,)
    """λ, weight of the penalty."""
    beta: Numbers = (4e-3,)
    """β, weight of the splitting."""
    a: Numbers = (1.0,)
    """Shapes of tl1."""
    learning_rate: Rates = None
    """Learning rates η."""
    normalize: Booleans = (True,)
    """Whether w is normalised after each step; True False runs both."""
    seeds: WholeNumber = 10_000
    """Random problems per cell."""
    tol: Tolerance = None
    """Residual at which a lane has converged."""
    max_steps: Steps = 100_000
    """Step cap of a lane."""
    precision: Literal["float32", "float64"] = "float32"
    """Floating-point precision."""
    slab: Lanes = None
    """Lanes per slab. An interrupted grid of several slabs resumes after the last finished one."""
    coordinator: str = ""
    """For several processes: HOST:PORT of the first, or auto under SLURM, on a TPU pod or under Kubernetes."""
    processes: WholeNumber = 1
    """With HOST:PORT, the number of processes."""
    process: WholeNumber = 0
    """With HOST:PORT, the index of this process, from 0; only the first writes a record."""
    quick: bool = False
    """Small sizes (d 10 20, k 2, 100 seeds) unless flags override them."""

    @classmethod
    def small(cls) -> SweepConfig:
        """Returns the defaults of ``--quick``."""
        return cls(d=(10, 20), k=(2,), seeds=100)

    def resolved(self) -> SweepConfig:
        """Returns the config with the default tolerance. The default η depends on β, so None stays."""
        return dataclasses.replace(self, tol=self.tolerance())

    def tolerance(self) -> float:
        """Returns ``tol``, by default that of the precision."""
        return self.tol if self.tol is not None else {"float32": 1e-6, "float64": 1e-12}[self.precision]


def make_grid(config: SweepConfig) -> Grid:
    """Returns the grid that the flags describe."""
    from rvsmjax.sweep import Grid

    from ...penalties.registry import for_grid

    axes = ["penalty", "d", "k", "lam", "beta", "a", "learning_rate", "normalize", "seeds"]
    return Grid(**{name: getattr(config, name) for name in axes} | {"penalty": for_grid(config.penalty, config.a)})


def workload(config: SweepConfig) -> Plan:
    """Returns the estimate of a sweep; the error of a lane decreases by a factor e in k / (learning rate) steps."""
    import jax

    from rvsmjax.sweep import slabs

    from ...one_layer.slabs import LANE_BYTES

    config = config.resolved()
    grid = make_grid(config)
    on_cpu = jax.devices()[0].platform == "cpu"
    count = len(slabs(grid, config.slab or SLAB[on_cpu]))
    size = f"{grid.size:,} lanes in {count} slab{'s' * (count > 1)}"
    cells = grid.size // math.prod(grid.shape[name] for name in ("k", "beta", "learning_rate", "d"))
    steps = 0.0
    for beta in config.beta:
        for rate in config.learning_rate or [1 / (beta + 4)]:
            steps += sum(min(config.max_steps, k * math.log(1 / config.tolerance()) / rate) for k in config.k)
    updates = cells * sum(config.d) * steps
    rate = UPDATES_PER_SECOND / (1 if config.precision == "float32" else 2) * usable_cores() / MEASURED_ON
    seconds = 5 + len(config.penalty) + updates / rate if on_cpu else None
    per_slab = min(grid.size, config.slab or SLAB[on_cpu]) * LANE_BYTES
    return Plan("sweep", size, seconds, 0.6e9 + 15 * per_slab, grid.size * LANE_BYTES)


STUDY = Command(
    name="sweep",
    config=SweepConfig,
    run=f"{__package__}.run:run",
    workload=workload,
    examples=(
        "--quick",
        "--penalty tl1 --a 0.1 1 10 --d 20 --k 2 --lam 1e-4 1e-3 --seeds 500",
        "--seeds 1000000 --dry-run",
        "--precision float64 --json --out results/double",
    ),
)
