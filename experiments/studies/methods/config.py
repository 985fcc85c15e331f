"""Flags of ``methods``."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Annotated

from tyro.conf import arg

from ...cli.command import Command
from ...cli.estimate import Cost, in_proportion
from ...cli.flags import CommonFlags, DataFolder, Minutes, Names, Numbers, RunsFolder, WholeNumber

NETWORKS = ("digits", "lenet", "resnet", "decoder", "mixer", "recurrent", "lenet-300-100")
SPLITTINGS = ("rvsm-l1", "rvsm-l0", "rvsm-tl1", "rvsm-group-l1", "rvsm-group-l0")
"""rvsm with a penalty on components or filters, whose λ follows the sparsity."""
BY_HAND = tuple(name.replace("rvsm", "fixed") for name in SPLITTINGS)
"""The same with a fixed λ, which whole trainings find."""
METRIC = "sparsify-metric"
"""sparsify with the optimizer's second moment as the metric, for adamw."""
TUNED = "rvsm"
"""rvsm with ℓ0 before the optimizer, whose β validation data chooses."""
DECOUPLED = "rvsm-decoupled"
"""rvsm with ℓ0 behind the optimizer: w goes a share α of the way to u in each step, whatever the optimizer."""
OTHERS = {
    "rvsm-frozen": ("β", (0.1, 1.0, 10.0)),
    DECOUPLED: ("α", (0.003, 0.03, 0.3)),
    "top-k": ("β", (0.1, 1.0, 10.0)),
    "admm": ("ρ", (0.01, 0.1, 1.0)),
    "safe": ("ρ", (0.01, 0.1, 1.0)),
    "elsa": ("ρ", (0.01, 0.1, 1.0)),
    "rigl": ("fraction", (0.1, 0.3, 0.5)),
    "sparse-evolution": ("fraction", (0.1, 0.3, 0.5)),
    "ac-dc": ("period", (0.025, 0.05, 0.1)),
    "proximal": ("ramp", (0.5, 0.667, 0.8)),
}
"""The number of each method that validation data chooses, and its values: as many for each. After the first seed the
best one alone is trained."""
FROZEN = ("rvsm-frozen", DECOUPLED, "top-k", "admm", "safe", "elsa")
"""Splittings whose u has the last fifth of the steps for fine-tuning."""
MOMENTS = (METRIC, "elsa")
"""Methods that read a second moment: for adamw."""
PUBLISHED = {"rigl-published": "lenet-300-100"}
"""Methods in the setting of their source, whose learning rate and steps are their own, and the network of each."""
METHODS = ("dense", "magnitude", "sparsify", METRIC, TUNED, *OTHERS, *SPLITTINGS, *BY_HAND, *PUBLISHED)
OPTIMIZERS = ("sgd", "adamw", "lion", "adafactor", "muon")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One training. ``sparsity``, ``ramp``, ``beta`` and ``value``, of ``OTHERS``, are 0 where the method has none."""

    network: str
    method: str
    optimizer: str
    sparsity: float
    ramp: float
    seed: int
    steps: int
    key: int = 0
    beta: float = 0.0
    value: float = 0.0

    def name(self) -> str:
        """Returns the name of its file."""
        numbers = [f"{x:g}" for x in (self.sparsity, self.ramp, self.beta, self.value) if x]
        ends = [f"{self.steps}steps", f"seed{self.seed}", *[f"key{self.key}"] * bool(self.key)]
        return "-".join([self.network, self.optimizer, self.method, *numbers, *ends])


@dataclasses.dataclass(frozen=True)
class MethodsConfig(CommonFlags):
    """Train networks to several sparsities with several methods and optimizers, at equal steps; a table with spread.

    digits: 64-32-10 on scikit-learn's digits. lenet: LeNet on MNIST. resnet: ResNet-20 on CIFAR-10 in bfloat16, about
    one epoch. decoder: a transformer of two layers on the characters of the Python reference. mixer: two blocks on the
    digits. recurrent: a gated recurrent unit on the characters. lenet-300-100: on all of MNIST, for rigl-published.
    """

    network: Names = ("digits",)
    """Networks: digits, lenet, resnet, decoder, mixer, recurrent, lenet-300-100."""
    method: Names = ("dense", "magnitude", "sparsify")
    """Methods: dense, magnitude (gradual pruning), sparsify, sparsify-metric (adamw's second moment says which weights
    matter), rvsm (ℓ0, the best β on validation data); rvsm-frozen, rvsm-decoupled (behind the optimizer, w goes a share
    α of the way to u in each step), top-k, admm, safe, elsa (u is fine-tuned in the last fifth of the steps), rigl,
    sparse-evolution, ac-dc, proximal (the best of three numbers on validation data); rvsm-l1, -l0, -tl1, -group-l1,
    -group-l0, whose λ follows the sparsity; fixed-l1 and so on, whose λ is fixed and found by several trainings;
    rigl-published, as in its source."""
    optimizer: Names = OPTIMIZERS
    """Optimizers: sgd (momentum 0.9), adamw, lion, adafactor, muon."""
    sparsity: Numbers = (0.8, 0.9, 0.95)
    """Shares of zeros of all kernels."""
    ramp: Numbers = (0.5, 0.667)
    """Shares of the steps over which magnitude pruning reaches the sparsity; the best on validation data counts."""
    beta: Numbers = (0.1, 1.0, 10.0)
    """β of the method rvsm; the best on validation data counts, and is trained alone after the first seed."""
    seeds: WholeNumber = 3
    """Runs of each setting."""
    steps: WholeNumber = 0
    """Updates of each run; 0 for the default of the network and method."""
    data_dir: DataFolder = None
    """Folder of the image files."""
    runs: RunsFolder = None
    """Folder of finished runs."""
    minutes: Minutes = None
    """Time limit after which no run starts; run the same command to resume."""
    finished: bool = False
    """Report the finished runs without training."""
    docs: Annotated[str, arg(metavar="FILE")] = ""
    """Also write the tables into this page, between their markers."""
    quick: bool = False
    """Small sizes (digits, sgd, 90 %, two seeds, 60 steps) unless flags override them."""

    @classmethod
    def small(cls) -> MethodsConfig:
        """Returns the defaults of ``--quick``."""
        return cls(optimizer=("sgd",), sparsity=(0.9,), ramp=(0.5,), seeds=2, steps=60)


SHORT = {"digits": 600, "lenet": 300, "resnet": 200, "decoder": 300, "mixer": 600, "recurrent": 300}
"""Updates of a run of a splitting alone, where the sparsity is what matters."""
DEFAULT_STEPS = {"digits": 600, "lenet": 1000, "resnet": 300, "decoder": 1500, "mixer": 600, "recurrent": 1500} | {
    "lenet-300-100": 120_000
}


def settings(config: MethodsConfig) -> Iterator[Setting]:
    """Yields the trainings of a study, all of one seed before the next."""
    cells = itertools.product(range(config.seeds), config.network, config.optimizer, config.sparsity, config.method)
    seen = set()
    for seed, network, optimizer, sparsity, method in cells:
        if method in MOMENTS and optimizer != "adamw":
            continue
        if PUBLISHED.get(method) != (network if network in PUBLISHED.values() else None):
            continue
        ramps = config.ramp if method == "magnitude" else (0.0,)
        betas = config.beta if method == TUNED else (0.0,)
        values = OTHERS[method][1] if method in OTHERS else (0.0,)
        for ramp, beta, value in itertools.product(ramps, betas, values):
            share = 0.0 if method in ("dense", *PUBLISHED) else sparsity
            steps = config.steps or (SHORT if method in (*SPLITTINGS, *BY_HAND) else DEFAULT_STEPS)[network]
            setting = Setting(network, method, optimizer, share, ramp, seed, steps, config.key, beta, value)
            if setting not in seen:
                seen.add(setting)
                yield setting


def work(config: MethodsConfig) -> tuple[int, str]:
    """Returns the amount of work and its unit."""
    costs = {"digits": 1, "lenet": 6, "resnet": 200, "decoder": 15, "mixer": 3, "recurrent": 15}
    return sum(costs.get(s.network, 1) * s.steps for s in settings(config)), "steps of the smallest network"


STUDY = Command(
    name="methods",
    config=MethodsConfig,
    run=f"{__package__}.run:run",
    workload=in_proportion("methods", Cost(60, 400, 1.0), work),
    examples=("--quick", "--network decoder --optimizer adamw muon --minutes 60", "--finished"),
)
