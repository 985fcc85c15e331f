"""How quantities are called in reports and figures."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ..penalties.registry import PENALTIES

ROWS = {
    "theta_w": "θ(w̄,w*)",
    "f_w": "f(w̄)",
    "theta_u": "θ(ū,w*)",
    "f_u": "f(ū)",
    "f_u_unit": "f(ū/‖ū‖)",
    "zeros": "d − ‖ū‖₀",
}
"""Rows of the paper's tables, in its order."""

AXES = {"d": "dimension d", "k": "patches k", "lam": "λ", "beta": "β", "learning_rate": "learning rate η"}


def entry_names(sweep: xr.Dataset) -> list[str]:
    """Returns the written name of each entry of a sweep's penalty axis: "Tℓ1, a = 0.5" for "tl1(a=0.5)"."""
    return [
        (PENALTIES[kind].label if (kind := family(label)) in PENALTIES else str(label))
        + (f", a = {a:g}" if np.isfinite(a) else "")
        for label, a in zip(sweep.penalty.values, sweep.a.values, strict=True)
    ]


def family(label: object) -> str:
    """Returns the penalty's name without its parameter: "tl1" for "tl1(a=0.5)"."""
    return str(label).split("(")[0]
