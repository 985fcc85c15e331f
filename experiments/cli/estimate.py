"""What a command would do, without doing it: how much, memory, disk, time; for ``--dry-run``.

Times are those that runs took on two cores of a server (AMD EPYC), in proportion to the work and the cores; what is
compiled takes as long anywhere. They are guesses, meant to tell a coffee from a night.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.records.environment import usable_cores

if TYPE_CHECKING:
    from experiments.training.run_store import Study

MEASURED_ON = 2
"""Cores of the machine whose times stand below."""
EPOCH_SECONDS = 5.5
"""Of LeNet on MNIST, where no finished run tells."""
TRAINING_MEMORY = 1.4e9
UPDATES_PER_SECOND = 4e9
"""Components that a sweep updates in float32, all penalties together; half in float64."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a command would do; None: not known."""

    command: str
    size: str
    seconds: float | None
    memory_bytes: float | None
    disk_bytes: float | None = None

    def lines(self) -> list[str]:
        """Returns the plan in words."""
        known = {
            "size": self.size,
            "time": duration(self.seconds),
            "memory": "not known" if self.memory_bytes is None else f"about {self.memory_bytes / 1e9:.1f} GB",
            "disk": "not known" if self.disk_bytes is None else f"up to {self.disk_bytes / 1e9:.1f} GB",
        }
        return [f"{self.command}: nothing is run, nothing written", *(f"  {name:7} {v}" for name, v in known.items())]


class Cost(NamedTuple):
    """What the defaults of a command took: seconds that do not grow with the work, and those that do; memory."""

    fixed: float
    growing: float
    memory_gb: float


COSTS = {
    "binary": Cost(25, 35, 1.2),
    "aht": Cost(10, 30, 0.8),
    "admm": Cost(60, 87, 1.1),
    "stopping": Cost(10, 50, 1.2),
    "tune": Cost(60, 300, 1.2),
    "audit": Cost(360, 380, 3.7),
    "seeds": Cost(30, 90, 1.0),
    "figures": Cost(7, 0, 0.5),
    "report": Cost(1, 0, 0.2),
}


SMALL = {"figures": "a few figures", "report": "a page"}
"""Sizes of commands that have no more to do for any flag."""


def make_plan(command: str, config: Any) -> Plan:
    """Returns the plan of a command whose flags have been checked."""
    if command == "sweep":
        return _sweep(config)
    if command in STUDIES:
        return _training(command, config, STUDIES[command](config))
    if command not in COSTS:
        return Plan(command, "not known", None, None)
    cost = COSTS[command]
    amount, unit = WORK[command](config)
    share = amount / max(WORK[command](type(config)())[0], 1)
    seconds = cost.fixed + cost.growing * share * MEASURED_ON / usable_cores()
    size = f"{amount:,} {unit}" if unit else SMALL[command]
    return Plan(command, size, seconds, 1e9 * cost.memory_gb, 1e8)


def duration(seconds: float | None) -> str:
    """Returns a time in words, roughly."""
    if seconds is None:
        return "not known"
    units = ((100, 1, "s"), (6000, 60, "min"), (360_000, 3600, "h"), (math.inf, 86_400, "days"))
    unit, name = next((unit, name) for limit, unit, name in units if seconds < limit)
    return f"about {seconds / unit:.2g} {name}"


def _sweep(config: Any) -> Plan:
    import jax

    from experiments.studies.one_layer.slabs import LANE_BYTES
    from experiments.studies.sweep.run import SLAB
    from rvsmjax.sweep import Grid, slabs

    config = config.resolved()
    axes = ["penalty", "d", "k", "lam", "beta", "a", "learning_rate", "normalize", "seeds"]
    grid = Grid(**{name: getattr(config, name) for name in axes})
    on_cpu = jax.devices()[0].platform == "cpu"
    count = len(slabs(grid, config.slab or SLAB[on_cpu]))
    size = f"{grid.size:,} lanes in {count} slab{'s' * (count > 1)}"
    cells = grid.size // math.prod(grid.shape[name] for name in ("k", "beta", "learning_rate", "d"))
    steps = 0.0
    for beta in config.beta:
        for rate in config.learning_rate or [1 / (beta + 4)]:
            # The error falls by a factor e in k / (learning rate) steps.
            steps += sum(min(config.max_steps, k * math.log(1 / config.tol) / rate) for k in config.k)
    updates = cells * sum(config.d) * steps
    rate = UPDATES_PER_SECOND / (1 if config.precision == "float32" else 2) * usable_cores() / MEASURED_ON
    seconds = 5 + len(config.penalty) + updates / rate if on_cpu else None
    per_slab = min(grid.size, config.slab or SLAB[on_cpu]) * LANE_BYTES
    return Plan("sweep", size, seconds, 0.6e9 + 15 * per_slab, grid.size * LANE_BYTES)


def _training(command: str, config: Any, study: Study) -> Plan:
    from experiments.training.run_store import read
    from experiments.training.study import KEPT

    folder = config.runs or KEPT
    recipes = [recipe for group in study.values() for recipe in group]
    found = [read(folder / f"{recipe.name()}.json") for recipe in recipes]
    todo = {recipe for recipe, run in zip(recipes, found, strict=True) if run is None}
    for recipe in list(todo):
        start = recipe.start
        # A run that came without its weights is trained again where another starts from them.
        while start is not None and not (folder / f"{start.name()}.npz").exists():
            todo.add(start)
            start = start.start
    epochs = sum(recipe.epochs for recipe in todo)
    took = [run["seconds_per_epoch"] for run in found if run and run["seconds_per_epoch"]]
    each = statistics.median(took) if took else EPOCH_SECONDS if config.data == "mnist" else None
    if config.data.startswith("digits"):
        each = 1.0
    there = sum(run is not None for run in found)
    size = f"{len(recipes)} runs, of which {there} are finished; {epochs:,} epochs to train"
    seconds = 0.0 if config.finished or not epochs else None if each is None else 5 + each * epochs
    if config.minutes is not None:
        seconds = 60 * config.minutes if seconds is None else min(seconds, 60 * config.minutes)
    lenet = command.startswith("lenet")
    return Plan(command, size, seconds, TRAINING_MEMORY if lenet else None, 5e6 * len(recipes) if lenet else None)


def _product(config: Any, *names: str) -> int:
    return math.prod(len(getattr(config, name)) for name in names)


def _lanes(config: Any, *names: str, each: int = 1) -> tuple[int, str]:
    return _product(config, *names) * config.seeds * each, "lanes"


def _penalties(config: Any) -> int:
    return sum(len(config.a) if name == "tl1" else 1 for name in config.penalty)


def _binary(config: Any) -> tuple[int, str]:
    rates = len(config.learning_rate or [0])
    return _penalties(config) * _product(config, "d", "k", "lam", "beta") * rates * config.seeds, "lanes"


def _aht(config: Any) -> tuple[int, str]:
    from experiments.studies.aht.run import cells

    return sum(1 for _ in cells(config)) * config.seeds, "lanes"


def _audit(config: Any) -> tuple[int, str]:
    from experiments.studies.audit.claims import CLAIMS

    return len(config.claims or CLAIMS) * config.lanes, "lanes of claims"


def _seeds(config: Any) -> tuple[int, str]:
    from experiments.studies.seeds.grid import settings

    lanes = sum(len(settings(config, penalty)) for penalty in config.penalty) * config.seeds
    return lanes * config.epochs, "epochs of networks, side by side"


def _tune(config: Any) -> tuple[int, str]:
    cells = _product(config, "penalty", "d", "sparsity", "truth_zeros")
    return cells * config.iterations * config.seeds, "solves"


WORK: dict[str, Callable[[Any], tuple[int, str]]] = {
    "binary": _binary,
    "aht": _aht,
    "admm": lambda config: _lanes(config, "penalty", "lam", "beta", "nonzero", "normalize", each=3),
    "stopping": lambda config: _lanes(config, "w_star", "w0", "learning_rate", each=15),
    "tune": _tune,
    "audit": _audit,
    "seeds": _seeds,
    "figures": lambda config: (1, ""),
    "report": lambda config: (1, ""),
}
"""How much there is to do, and of what."""


def _lenet_binary(config: Any) -> Study:
    from experiments.studies.lenet.binary.run import best, table_1

    return best(config) if config.best else table_1(config)


def _lenet5_compress(config: Any) -> Study:
    from experiments.studies.lenet.compress.run import make_study

    return make_study(config)


def _lenet5_shrink(config: Any) -> Study:
    from experiments.studies.lenet.shrink.run import make_study

    return make_study(config)


def _cifar(config: Any) -> Study:
    from experiments.studies.cifar.run import make_study, settled

    return make_study(settled(config))


STUDIES: dict[str, Callable[[Any], Study]] = {
    "lenet-binary": _lenet_binary,
    "lenet5-compress": _lenet5_compress,
    "lenet5-shrink": _lenet5_shrink,
    "cifar": _cifar,
}
"""The runs of the commands that train."""
