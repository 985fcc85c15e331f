"""Published results of sparse networks on CIFAR-10, by others than the three papers."""

from __future__ import annotations

from typing import Final

PUBLISHED: Final = {
    "resnet18": {"arXiv 2606.12278": (95.12, 72.9), "LinBreg (arXiv 2105.04319)": (90.2, 96.6)},
    "vgg19": {
        "lottery jackpots (90 %)": (93.94, 90.0),
        "lottery jackpots (95 %)": (93.74, 95.0),
        "arXiv 2606.12278": (93.44, 97.97),
        "SAFE (arXiv 2506.06866)": (93.56, 99.5),
    },
}
"""Accuracy and zeros of all weights, in percent, by network and source; training budgets differ from ours."""
