"""Rows that time the sweep."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import gpu

from ..records.folder import Facts
from .records import Line


class Missing(Exception):
    """Something that this machine lacks; the row is left out, with this reason."""


def beside_cpu(**settings: Any) -> Facts:
    """Returns the largest differences of an engine's results from the CPU's."""
    return {"engine": settings["engine"]} | gpu.beside_cpu(**settings)


def rate(engine: str, **settings: Any) -> Facts:
    """Returns component updates in a second of each run, by an engine of ``run_sweep`` or by PyTorch."""
    settings = {"engine": engine} | settings
    found = (torch_rate if engine.startswith("torch") else gpu.rate)(**settings)
    return settings | {"updates_per_second": found}


def grid(seeds: int, engine: str | None = None, lines: Sequence[Line] = (), **settings: Any) -> Facts:
    """Returns the seconds of the default grid.

    Args:
      seeds: of each cell.
      engine: of ``run_sweep``; None: the kernel that was fastest in the rates on this kind of device.
      lines: what was measured there.
      settings: other arguments of ``grid_seconds``.
    """
    asked: Facts = {"engine": engine or fastest_kernel(lines), "seeds": seeds}
    return asked | gpu.grid_seconds(**asked, **settings)


def fastest_kernel(lines: Sequence[Line]) -> str:
    """Returns the engine with the highest rate among those that are kernels.

    Raises:
      Missing: no kernel has a rate.
    """
    rates: dict[str, list[float]] = {}
    for line in lines:
        if line.get("kind") == "result" and line.get("job") == "rates":
            engine = line["result"]["engine"]
            if engine != "xla" and not engine.startswith("torch"):
                rates.setdefault(engine, []).append(statistics.median(line["result"]["updates_per_second"]))
    if not rates:
        raise Missing("no kernel has a measured rate on this kind of device")
    return max(rates, key=lambda engine: max(rates[engine]))


def need_torch() -> None:
    """Raises ``Missing`` unless PyTorch is installed."""
    if importlib.util.find_spec("torch") is None:
        raise Missing("PyTorch is not installed")


def torch_rate(engine: str, penalty: str, d: int, lanes: int, steps: int, repeats: int) -> list[float]:
    """Returns the component updates in a second of PyTorch's steps, plain or compiled.

    Raises:
      Missing: PyTorch is not installed.
    """
    need_torch()
    import torch

    from benchmarks import peers, rates

    place = "cuda" if torch.cuda.is_available() else "cpu"
    w, w_star = (torch.from_numpy(v).to(place) for v in rates.starts(d, lanes))
    one = torch.compile(peers.torch_step) if engine == "torch-compiled" else peers.torch_step
    few, found = max(1, steps // 10), []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        w = peers.torch_lanes(penalty, w, w_star, few, one)
        if place == "cuda":
            torch.cuda.synchronize()
        found.append(lanes * d * few / (time.perf_counter() - started))
    return found[1:]
