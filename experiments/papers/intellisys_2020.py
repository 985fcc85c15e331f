"""CIFAR-10 results of the IntelliSys paper ("I")."""

from __future__ import annotations

from typing import Final

TABLES: Final = {
    "vgg16": {
        "sgd": (93.82, 0.0),
        "rvsm l1": (93.7, 35.68),
        "rvsm tl1": (93.07, 63.34),
        "rvsm l0": (92.54, 86.89),
    },
    "resnet18": {
        "sgd": (95.07, 0.0),
        "admm": (94.84, 47.08),
        "rvsm l0": (94.89, 93.70),
    },
}
"""Tables 1 and 2: accuracy and sparsity over all weights, in percent."""
