"""Setting of Figure 4 and Table 1 of the Frontiers paper on RVSCGD ("F").

For Figure 4, F does not state w⁰, w* or the number of steps.
"""

from __future__ import annotations

from typing import Final

SETTING: Final = {"k": 20, "d": 50, "lam": 1e-4, "beta": 4e-3, "normalize": True}
"""One-layer experiment of section 6 and Figure 4, with the l0 penalty."""

LEARNING_RATE: Final = 1e-5
"""η of Figure 4."""

TABLE_1: Final = (
    ("Base model", 1.0, 0.0, 89.31, 0.0),
    ("RGSM (GL)", 1.0, 1e-7, 87.17, 33.31),
    ("RGSM (GL)", 1.0, 1e-5, 85.34, 66.67),
    ("RGSM (GL)", 1.0, 1e-3, 84.92, 83.76),
)
"""LeNet with binarized activations on MNIST: penalty, β, λ, accuracy and sparsity in percent."""

TEXT: Final = {"base accuracy": 89.13, "sparsity": 83.76, "loss": 4.39}
"""The same results in the text of section 6. The loss matches the base accuracy of the table, not of the text."""
