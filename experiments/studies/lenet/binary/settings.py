"""What F Table 1 leaves open, one setting a run; most follow the authors' released code.

The code (github.com/tdinh15/rvsm-rgsm-admm, for CIFAR-10) has LeNet 6-16-120-84-10 with pooling after the activation,
PyTorch's initialization, pixels in [0, 1] and batches of 128. Its relaxed group-wise splitting method (RGSM) has groups
of all weights out of an input channel, in convolutions only; u by group l0 with λ₁ = 0.01 and β = 1; and a group lasso
with λ₂ in the loss. β(w − u) is added after a Nesterov momentum that starts at 0 in each epoch; w becomes u at its end.
The code has no binary units, hence no straight-through estimator. Unlike there, 5,000 images are held out.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ....training.run_store import Study
    from ..recipes import LeNetRecipe

SLOPES: dict[str, dict[str, Any]] = {
    "clipped relu": {"ste": "clipped_relu"},
    "relu": {"ste": "relu"},
    "√(2/π)·relu": {"ste": "relu", "ste_scale": math.sqrt(2 / math.pi)},
    "identity": {"ste": "identity"},
}
"""Fields of the recipe by straight-through estimator."""
F_SLOPE = "√(2/π)·relu"
"""That of F eq. 8."""
RELEASED: dict[str, Any] = {
    "net": "6-16-120-84",
    "pooling": "after",
    "init": "torch",
    "standardize": False,
    "batch": 128,
}
"""Fields by the released code."""
RGSM: dict[str, Any] = {
    "method": "rvsm",
    "penalty": "channel_l0",
    "lam": 1e-2,
    "split": "convolutions",
    "placement": "decoupled",
    "nesterov": True,
    "restart": "momentum",
    "overwrite": True,
}
"""Further fields by its relaxed group-wise splitting method."""
SETTINGS: dict[str, dict[str, Any]] = {
    **{f"6-16-120-84, {name}": RELEASED | slope for name, slope in SLOPES.items()},
    "6-16-120-84, clipped relu, pooling before": RELEASED | {"pooling": "before"},
    f"6-16-120-84, {F_SLOPE}, pooling before": RELEASED | SLOPES[F_SLOPE] | {"pooling": "before"},
    "6-16-120-84, clipped relu, standardized pixels": RELEASED | {"standardize": True},
    **{f"RGSM, λ₂ = {lam:g}": RELEASED | RGSM | {"loss_lasso": lam} for lam in (1e-7, 1e-5, 1e-3)},
    "channel l1 of convolutions, λ = 0.001": RELEASED
    | {"method": "rvsm", "penalty": "channel_l1", "lam": 1e-3, "split": "convolutions"},
    "group l1, λ = 0.001, batches of 64": RELEASED
    | {"method": "rvsm", "penalty": "group_l1", "lam": 1e-3, "batch": 64},
    **{f"l0, λ = {lam:g}": RELEASED | {"method": "rvsm", "penalty": "l0", "lam": lam} for lam in (1e-5, 1e-3)},
}
"""Fields that differ from the recipe of the table, by row."""


def settings_study(common: LeNetRecipe) -> Study:
    """Returns the runs of ``SETTINGS``, one seed each.

    Args:
      common: recipe of the table's base.
    """
    return {label: [dataclasses.replace(common, **fields)] for label, fields in SETTINGS.items()}
