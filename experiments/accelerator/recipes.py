"""Recipes of the trainings of a rental: those of the paper, and curves of accuracy against sparsity."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from rvsmjax.nets import ResNet

from ..studies.cifar.recipes import NETS, CifarRecipe, modern, released

SPARSITIES = (0.9, 0.95, 0.98, 0.99)
CURVE_EPOCHS, CURVE_SEEDS = 60, 3


def paper() -> Iterator[CifarRecipe]:
    """Yields Tables 1 and 2 of I: ResNet18 with ℓ0, sgd, ADMM as released and as published, then VGG-16."""
    for method, penalty in (("rvsm", "l0"), ("sgd", ""), ("admm", "signed_percentile"), ("admm", "")):
        yield released("resnet18", method, penalty, dtype="bfloat16")
    for method, penalty in (("sgd", ""), ("rvsm", "l0"), ("rvsm", "l1"), ("rvsm", "tl1")):
        yield released("vgg16", method, penalty, dtype="bfloat16")


def curves() -> Iterator[CifarRecipe]:
    """Yields runs at several sparsities with fewer epochs, all runs of the first seed before those of the second."""
    for seed in range(CURVE_SEEDS):
        for net in ("resnet18", "vgg16"):
            common = {"dtype": "bfloat16", "epochs": CURVE_EPOCHS, "seed": seed}
            yield modern(net, "sgd", "", **common)
            for sparsity in SPARSITIES:
                for penalty in ("top_k", "l0"):
                    yield modern(net, "rvsm", penalty, sparsity=sparsity, lam=0.0, **common)


def tiny_net() -> str:
    """Registers the network of ``--rehearse``, three convolutions that compile in seconds, and returns its name."""
    NETS.setdefault("tiny", functools.partial(ResNet, blocks=(1,), width=4))
    return "tiny"


def tiny() -> Iterator[CifarRecipe]:
    """Yields the recipes of ``--rehearse``."""
    for method, penalty in (("rvsm", "l0"), ("sgd", "")):
        yield released(tiny_net(), method, penalty, epochs=2, batch=20)
