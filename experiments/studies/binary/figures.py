"""Figure 4 of the Frontiers paper: a function from data to a matplotlib Figure."""

from __future__ import annotations

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...penalties.registry import look
from ...reports.style import STYLE, new_figure
from .simulate import RISE, rises

PANELS = {"theta": "θ(w, w*)  [rad]", "lagrangian": "L(u, w)", "gamma": "θ(w, u)  [rad]"}


@matplotlib.rc_context(STYLE)
def figure_4(descents: xr.Dataset) -> Figure:
    """Returns θ(w,w*), the Lagrangian and θ(w,u) over the steps of each run, and where the Lagrangian rises again.

    Runs whose Lagrangian ends above its minimum have a colour of their own. The last panel has the way of L from each
    run's minimum, on the steps around it.
    """
    figure, panels = new_figure(14.0, 4.2, ncols=4)
    risen = rises(descents.lagrangian) > RISE
    colors = np.where(risen, look("tl1").color, look("l0").color)
    step = descents.step.values / 1000
    for axes, (name, label) in zip(panels, PANELS.items(), strict=False):
        for values, color in zip(descents[name].transpose("run", "step").values, colors, strict=True):
            axes.plot(step, values, color=color, lw=0.9, alpha=0.6)
        axes.set(xlabel="step [1000]", title=label, yscale="linear" if name == "gamma" else "log")
    panels[2].set_ylim(0, np.pi / 2)
    lagrangian = descents.lagrangian.transpose("run", "step").values
    for values, color in zip(lagrangian, colors, strict=True):
        panels[3].plot(step, values - values.min(), color=color, lw=0.9, alpha=0.6)
    panels[3].set(xlabel="step [1000]", title="L less its minimum in the run")
    panels[3].set_yscale("symlog", linthresh=1e-8)
    panels[3].set_ylim(0, 1e-2)
    counts = {"l0": ("L decreases to the end", int((~risen).sum())), "tl1": ("L rises again", int(risen.sum()))}
    handles = [Line2D([], [], color=look(key).color, label=f"{text}: {n} runs") for key, (text, n) in counts.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure
