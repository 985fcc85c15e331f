"""Flags of ``lenet-records`` and the runs that they describe."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from ....cli.command import Command
from ....cli.flags import CommonFlags, Names, WholeNumber, WholeNumbers
from ....training.estimate import of_runs
from ....training.study import TrainingConfig

if TYPE_CHECKING:
    from ....training.run_store import Study
    from ..recipes import LeNetRecipe

NETS: dict[str, Literal["300-100", "20-50-500"]] = {"lenet-300-100": "300-100", "lenet-5": "20-50-500"}
"""Keys of the recipe by network."""
KERNELS = {"lenet-300-100": 266_200, "lenet-5": 430_500}
"""Weights counted."""
ASKED = {("lenet-300-100", 68): 0.9808, ("lenet-5", 280): 0.9925, ("lenet-5", 390): 0.992}
"""Accuracy to reach, by network and how many times fewer weights it has. The first two are those of sparse variational
dropout, D. Molchanov et al., arXiv 1701.05369, Table 1."""
METHODS: dict[str, dict[str, Any]] = {
    "sparsify": {"method": "sparsify"},
    "sparsify-unshifted": {"method": "sparsify", "shift": 0},
    "rvsm-l0": {"method": "rvsm", "penalty": "l0", "beta": 0.1, "follow": True},
    "admm": {"method": "admm", "penalty": "top_k", "beta": 0.003, "follow": True},
    "magnitude": {"method": "magnitude"},
}
"""Fields of the recipes by method; β and ρ are those of ``lenet5-compress``."""
SHIFT = 1
"""Largest random shift of a training image, in pixels."""
FINE_TUNED = ("rvsm-l0", "admm")
"""Methods whose u has the last fifth of the epochs for fine-tuning; the others keep their zeros before that."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LenetRecordsConfig(CommonFlags, TrainingConfig):
    """Train LeNet-300-100 and LeNet-5 with the fewest weights that are published, by several methods.

    Finished runs are stored under --runs and reused. An interrupted command resumes when it is run again.
    """

    epochs: WholeNumber = 60
    """Epochs of a run, fine-tuning included."""
    data: str = "mnist"
    """Images: mnist, or digits (scikit-learn's, enlarged; nothing to download)."""
    network: Names = tuple(NETS)
    """Networks: lenet-300-100 (68 times fewer weights), lenet-5 (280 and 390 times)."""
    times: WholeNumbers = (68, 280, 390)
    """How many times fewer weights, of those of the networks."""
    methods: Names = tuple(METHODS)
    """Methods: sparsify, sparsify-unshifted (images as they are), rvsm-l0, admm, magnitude."""
    quick: bool = False
    """Small sizes (digits, 5 epochs, 1 seed, lenet-300-100, 2 methods) unless flags override them."""

    @classmethod
    def small(cls) -> LenetRecordsConfig:
        """Returns the defaults of ``--quick``."""
        return cls(epochs=5, seeds=1, network=("lenet-300-100",), methods=("sparsify", "rvsm-l0"), data="digits")


def make_study(config: LenetRecordsConfig) -> Study:
    """Returns the runs: for each network and size each method, one of ``FINE_TUNED`` as its two parts."""
    study: Study = {}
    for seed in range(config.seeds):
        for network, times in cells(config):
            for name in config.methods:
                for label, recipe in _parts(config, network, times, name, seed).items():
                    study.setdefault(label, []).append(recipe)
    return study


def cells(config: LenetRecordsConfig) -> list[tuple[str, int]]:
    """Returns the pairs of network and size, of those in ``ASKED``."""
    return [(network, times) for network, times in ASKED if network in config.network and times in config.times]


def _parts(config: LenetRecordsConfig, network: str, times: int, name: str, seed: int) -> dict[str, LeNetRecipe]:
    from ..recipes import LeNetRecipe

    common = LeNetRecipe(
        net=NETS[network],
        activation="relu",
        schedule="cosine",
        sparsity=1 - KERNELS[network] // times / KERNELS[network],
        batch=config.batch,
        data=config.data,
        key=config.key,
        seed=seed,
    )
    last = max(1, round(config.epochs / 5)) if name in FINE_TUNED else 0
    own = {"shift": SHIFT, "epochs": config.epochs - last, "learning_rate": 0.05} | METHODS[name]
    first = dataclasses.replace(common, **own)
    if not last:
        return {entry(name, network, times): first}
    tuned = dataclasses.replace(common, shift=SHIFT, epochs=last, learning_rate=0.02, method="frozen", start=first)
    return {entry(f"{name}, before", network, times): first, entry(name, network, times): tuned}


def entry(label: str, network: str, times: int) -> str:
    """Returns the label of a method for a network with so many times fewer weights."""
    return f"{network}, {times} times fewer, {label}"


STUDY = Command(
    name="lenet-records",
    config=LenetRecordsConfig,
    run=f"{__package__}.run:run",
    workload=of_runs("lenet-records", make_study),
    examples=("--finished", "--network lenet-300-100 --methods sparsify --seeds 1", "--quick"),
)
