"""What the Frontiers paper on RVSCGD ("F") prints: the setting of Figure 4, and Table 1.

F states neither the start, nor w*, nor the number of steps of Figure 4.
"""

from __future__ import annotations

from typing import Final

SETTING: Final = {"k": 20, "d": 50, "lam": 1e-4, "beta": 4e-3, "normalize": True}
"""Of the one-layer experiment, section 6 and Figure 4, with the l0 penalty."""

LEARNING_RATE: Final = 1e-5
"""η of Figure 4."""

TABLE_1: Final = (
    ("Base model", 1.0, 0.0, 89.31, 0.0),
    ("RGSM (GL)", 1.0, 1e-7, 87.17, 33.31),
    ("RGSM (GL)", 1.0, 1e-5, 85.34, 66.67),
    ("RGSM (GL)", 1.0, 1e-3, 84.92, 83.76),
)
"""LeNet with binarized activations on MNIST: penalty, β, λ, accuracy and sparsity in per cent, as in the table."""

TEXT: Final = {"base accuracy": 89.13, "sparsity": 83.76, "loss": 4.39}
"""The same in the text of section 6. Its loss is that of the table's base accuracy, not of its own."""
