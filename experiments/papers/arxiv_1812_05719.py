"""Tables 1, 2 and 3 of arXiv 1812.05719 ("A"), as printed.

The paper states k, λ, β and a, but not the learning rate, the stopping rule, the number of trials or the distribution
of w*. Each value looks like a single draw.
"""

from __future__ import annotations

import math
from typing import Final

SETTING: Final = {"k": 2, "lam": 1e-4, "beta": 4e-3, "a": 1.0, "normalize": True}
"""Parameters of the tables; ``a`` applies to tl1 only."""

DIMENSIONS: Final = (10, 20, 30, 40, 50)

LIMIT_ROWS: Final = ("theta_u", "f_u", "f_u_unit", "zeros")
"""Rows comparable with converged runs. Rows theta_w and f_w cannot be limits (see ``paper_comparison``)."""

TABLES: Final[dict[str, tuple[int, dict[str, tuple[float, ...]]]]] = {
    "l0": (
        1,
        {
            "theta_w": (8.75685e-03, 6.68412e-03, 6.04336e-03, 5.32728e-03, 4.94954e-03),
            "f_w": (1.91348e-05, 1.11535e-05, 9.11881e-06, 7.08694e-06, 6.11803e-06),
            "theta_u": (3.37294e-01, 5.28306e-01, 6.58853e-01, 7.03679e-01, 8.68654e-01),
            "f_u": (2.57150e-02, 5.83579e-02, 8.56018e-02, 9.56203e-02, 1.34753e-01),
            "f_u_unit": (2.61605e-02, 6.05623e-02, 9.01282e-02, 1.01181e-01, 1.44854e-01),
            "zeros": (6, 15, 25, 34, 46),
        },
    ),
    "tl1": (
        2,
        {
            "theta_w": (2.89468e-02, 2.03823e-02, 2.03790e-02, 1.64539e-02, 1.37370e-02),
            "f_w": (2.08177e-04, 1.03407e-04, 1.03373e-04, 6.74448e-05, 4.70379e-05),
            "theta_u": (1.05764e-01, 1.42955e-01, 1.70723e-01, 1.93306e-01, 2.09155e-01),
            "f_u": (3.94756e-03, 8.38579e-03, 1.25855e-02, 1.74556e-02, 2.18136e-02),
            "f_u_unit": (2.73123e-03, 4.94569e-03, 7.00566e-03, 8.93097e-03, 1.04133e-02),
            "zeros": (1, 4, 9, 10, 13),
        },
    ),
    "l1": (
        3,
        {
            "theta_w": (5.57468e-02, 3.98867e-02, 3.57740e-02, 2.95779e-02, 2.56507e-02),
            "f_w": (7.67536e-04, 3.94319e-04, 3.17482e-04, 2.17325e-04, 1.63585e-04),
            "theta_u": (7.52479e-02, 9.48354e-02, 1.00794e-01, 1.01500e-01, 1.02384e-01),
            "f_u": (2.51967e-03, 4.44921e-03, 5.79414e-03, 7.15888e-03, 8.44975e-03),
            "f_u_unit": (1.39230e-03, 2.20154e-03, 2.48343e-03, 2.51794e-03, 2.56144e-03),
            "zeros": (0, 1, 2, 4, 6),
        },
    ),
}
"""Penalty -> (table number, metric -> values at ``DIMENSIONS``), in the paper's order."""


def value(penalty: str, metric: str, d: int) -> float:
    """Returns the printed value, or NaN if the paper has none."""
    if penalty not in TABLES or d not in DIMENSIONS or metric not in TABLES[penalty][1]:
        return math.nan
    return TABLES[penalty][1][metric][DIMENSIONS.index(d)]
