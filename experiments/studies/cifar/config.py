"""Flags of ``cifar`` and the runs that they describe."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ...cli.command import Command
from ...cli.flags import Batch, CommonFlags, Epochs, Names, Strength, Strengths
from ...cli.interrupts import mendable
from ...cli.runner import check_axes
from ...records.folder import BadInput, require_one_of
from ...training.estimate import of_runs
from ...training.study import TrainingConfig

if TYPE_CHECKING:
    from ...training.run_store import Study
    from .recipes import CifarRecipe

NETS = ("resnet18", "vgg16", "vgg19", "resnet20", "slim", "quick")
METHODS = ("sgd", "rvsm", "admm", "admm-released", "magnitude", "sparsify")
"""``admm-released`` projects with the percentile of signed weights."""
CHOICES = {
    "net": NETS,
    "preset": ("released", "modern", "short", "fast", "speedrun"),
    "dtype": ("float32", "bfloat16"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CifarConfig(CommonFlags, TrainingConfig):
    """VGG-16, ResNet or a slim network on CIFAR-10 with sgd, rvsm, admm, pruning or sparsify: I Tables 1 and 2.

    Finished runs are stored under --runs and reused. An interrupted command resumes when it is run again.
    """

    net: str = "resnet18"
    """Network: resnet18, vgg16, vgg19, resnet20 (0.27 M parameters), slim (eight layers, a quarter of resnet18's
    width), or quick (2 M parameters; learns in a few epochs)."""
    preset: str = "released"
    """Settings: released (the paper's and its code's), modern (standardised pixels, cosine schedule), short (modern
    for 2 epochs), fast (40 epochs with warm-up, reflected crops and smoothed labels), or speedrun (16 epochs on all
    training images, for quick). With fast and speedrun, sparse methods have 90 % zeros by default."""
    method: Names = ("sgd", "rvsm", "admm", "admm-released")
    """Methods: sgd, rvsm, admm, admm-released (percentile of signed weights), magnitude, sparsify (around SGD)."""
    penalty: Names = ("l1", "tl1", "l0")
    """Penalties of rvsm: l1, l0, tl1, group_l1, group_l0, group_tl1, channel_l1, channel_l0, top_k, group_top_k,
    or a class as MODULE:CLASS."""
    lam: Strengths = None
    """λ of rvsm; one run per value."""
    beta: Strength = None
    """β of rvsm, or ρ of admm."""
    sparsity: Strengths = None
    """Required shares of zeros, one run per value; determines λ of rvsm: with fast and speedrun
    throughout, else at the start."""
    epochs: Epochs = None
    """Epochs of a run."""
    batch: Batch = None  # type: ignore[assignment]  # until ``settled``
    """Batch size."""
    data: str = "cifar10"
    """Images: cifar10, or digits32 (scikit-learn's, enlarged; nothing to download)."""
    dtype: str = "float32"
    """Precision of the computation: float32, or bfloat16 (parameters stay float32)."""
    quick: bool = False
    """Small sizes (slim, short, digits32, 1 epoch, 1 seed, batch 100, sgd and l0) unless flags override them."""

    @classmethod
    def small(cls) -> CifarConfig:
        """Returns the defaults of ``--quick``."""
        return cls(
            net="slim",
            preset="short",
            data="digits32",
            epochs=1,
            seeds=1,
            batch=100,
            method=("sgd", "rvsm"),
            penalty=("l0",),
        )


def settled(config: CifarConfig) -> CifarConfig:
    """Returns the config with the preset's epochs and batch size as the defaults."""
    from .recipes import BATCHES, EPOCHS

    epochs = EPOCHS[config.preset] if config.epochs is None else config.epochs
    batch = BATCHES[config.preset] if config.batch is None else config.batch
    return dataclasses.replace(config, epochs=epochs, batch=batch)


def check(config: CifarConfig) -> None:
    """Raises ``BadInput`` for unknown choices and numbers out of range."""
    import rvsmjax as rv

    from ...training.chains import SHARES, penalty_of

    for name, choices in CHOICES.items():
        require_one_of(name, getattr(config, name), choices)
    check_axes(config, "method", "penalty")
    for value in config.method:
        require_one_of("method", value, METHODS)
    with mendable():
        for value in config.penalty:
            if value not in SHARES:
                penalty = penalty_of(value)
                if config.preset in ("fast", "speedrun") and config.lam is None and "rvsm" in config.method:
                    rv.rvsm(penalty, sparsity=0.5, beta=1.0)  # λ can follow the sparsity
    for name in ("lam", "sparsity"):
        if getattr(config, name) is not None:
            check_axes(config, name)
    if config.lam is not None and config.sparsity is not None:
        raise BadInput("lam must be left out with --sparsity, which determines it")
    for lam in config.lam or ():
        if not lam > 0:
            raise BadInput(f"lam must be > 0, got {lam:g}")
    if config.beta is not None and not config.beta > 0:
        raise BadInput(f"beta must be > 0, got {config.beta:g}")
    for share in config.sparsity or ():
        if not 0 < share < 1:
            raise BadInput(f"sparsity must be in (0, 1), got {share:g}")
    without_lam = [p for p in config.penalty if p in SHARES] if "rvsm" in config.method else []
    without_lam += [m for m in config.method if m in ("magnitude", "sparsify")]
    if without_lam and config.sparsity is None and config.preset not in ("short", "fast", "speedrun"):
        raise BadInput(f"sparsity must be given for {without_lam[0]}, which has no λ")


def make_study(config: CifarConfig) -> Study:
    """Returns the runs: all seeds of each method and penalty at each strength."""
    study: Study = {}
    for method in config.method:
        for penalty in config.penalty if method == "rvsm" else ("",):
            for strength, settings in _strengths(config, method, penalty):
                label = " ".join(part for part in (method, penalty, strength) if part)
                recipe = make_recipe(config, method, penalty, **settings)
                study[label] = [dataclasses.replace(recipe, seed=seed) for seed in range(config.seeds)]
    return study


def make_recipe(config: CifarConfig, method: str, penalty: str, **settings: Any) -> CifarRecipe:
    """Returns the recipe of one method; keywords are fields of ``CifarRecipe``."""
    from .recipes import PRESETS

    if method == "admm-released":
        method, penalty = "admm", "signed_percentile"
    common = {name: getattr(config, name) for name in ("epochs", "batch", "dtype", "key", "data")}
    return PRESETS[config.preset](config.net, method, penalty, **common, **settings)


def _strengths(config: CifarConfig, method: str, penalty: str) -> list[tuple[str, dict[str, Any]]]:
    """Returns the strengths of one method: part of the label, and fields of the recipe."""
    if method == "sgd":
        return [("", {})]
    beta = {} if config.beta is None or method in ("magnitude", "sparsify") else {"beta": config.beta}
    if config.sparsity is not None:
        return [(f"{100 * share:g} %", {"sparsity": share, "lam": 0.0} | beta) for share in config.sparsity]
    if config.lam is not None and method == "rvsm":
        return [(f"λ = {lam:g}", {"lam": lam, "sparsity": 0.0} | beta) for lam in config.lam]
    return [("", beta)]


STUDY = Command(
    name="cifar",
    config=CifarConfig,
    run=f"{__package__}.run:run",
    workload=of_runs("cifar", lambda config: make_study(settled(config))),
    examples=(
        "--net slim --preset short --minutes 30",
        "--net resnet18 --method rvsm --penalty l0 --dry-run",
        "--quick",
    ),
)
