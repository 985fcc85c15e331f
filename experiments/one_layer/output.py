"""Output of a grid of one-layer problems: data, statistics, figures, facts of the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import xarray as xr

from ..records.folder import Facts
from ..reports.vega import add_figures, save
from . import distributions
from .figures import sweep_figures
from .summary import summarize, to_frame

FIGURE_LANES = 2_000_000
"""Maximum number of lanes in the figures: those of the first seeds of each cell."""


def how_it_went(lanes: int, facts: Facts, summary: xr.Dataset) -> Facts:
    """Returns the facts of a run for its record: devices, statuses, learning rates, steps, speed.

    Args:
      lanes: number of lanes.
      facts: ``devices`` and ``slabs.FACTS``.
      summary: statistics.
    """
    executed, needed = int(facts["steps_executed"]), int(facts["steps_needed"])
    return {
        "devices": list(facts["devices"]),
        "lanes": lanes,
        "status": {str(name): int(summary.endings.sel(ending=name).sum()) for name in summary.ending.values},
        "learning_rate_used": summary.eta.values.tolist(),
        "steps": {"executed": executed, "needed": needed, "waste": executed / max(needed, 1)},
        "lanes_per_second": lanes / facts["run_seconds"],
    }


def write_summary(
    folder: Path, lanes: xr.Dataset, places: Sequence[Mapping[str, slice]] = ({},)
) -> tuple[xr.Dataset, list[str]]:
    """Writes statistics and figures; returns the statistics and the figures' names. ``places``: see ``summarize``."""
    summary = summarize(lanes, places)
    to_frame(summary).to_csv(folder / "summary.csv", index=False)
    count = math.prod(lanes.sizes.values()) // lanes.sizes["seed"]
    shown = lanes.isel(seed=slice(0, max(1, FIGURE_LANES // count))).load()
    add_figures(folder, {distributions.NAME: distributions.cells(shown).plain()})
    drawn = sweep_figures(shown)
    save(drawn, folder)
    return summary, list(drawn)
