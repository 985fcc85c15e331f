"""Figure 4 of the Frontiers paper."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ...penalties.palette import BLUE, RED
from ...reports.figures import Axis, Figure, Look
from .simulate import RISE, rises

LEAST = 1e-8
"""Below this the last panel is linear."""


def figure_4(descents: xr.Dataset) -> Figure:
    """Returns θ(w,w*), the Lagrangian and θ(w,u) over the steps of each run, and where the Lagrangian rises again.

    Runs whose Lagrangian ends above its minimum have a colour of their own. The last panel has the way of L from each
    run's minimum, on the steps around it.
    """
    risen = rises(descents.lagrangian) > RISE
    looks = {
        False: Look(f"L decreases to the end: {int((~risen).sum())} runs", BLUE),
        True: Look(f"L rises again: {int(risen.sum())} runs", RED),
    }
    figure = Figure(columns=4, width=230)
    figure.legend = {look.name: look for look in looks.values()}
    shown = {name: descents[name].transpose("run", "step").values for name in ("theta", "lagrangian", "gamma")}
    shown["above"] = shown["lagrangian"] - shown["lagrangian"].min(1, keepdims=True)
    places = {0.0: "0", **{10.0**i: f"1e{i}" for i in range(-7, -1)}}
    axes = {
        "theta": Axis("θ(w, w*)  [rad]", scale="log"),
        "lagrangian": Axis("L(u, w)", scale="log"),
        "gamma": Axis("θ(w, u)  [rad]", (0, np.pi / 2)),
        "above": Axis("L less its minimum in the run", (0, 1e-2), "symlog", places, LEAST),
    }
    for name, y in axes.items():
        panel = figure.panel("", Axis("step [1000]"), y)
        for values, rose in zip(shown[name], risen, strict=True):
            panel.line(descents.step.values / 1000, values, looks[bool(rose)], width=0.9, opacity=0.6)
    return figure
