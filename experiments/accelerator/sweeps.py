"""Rows that measure the sweep."""

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
    """Raised if this machine lacks something that the row needs; the message is recorded."""


def beside_cpu(**settings: Any) -> Facts:
    """Returns the largest differences between the results of an engine and of the CPU."""
    return {"engine": settings["engine"]} | gpu.beside_cpu(**settings)


def rate(engine: str, **settings: Any) -> Facts:
    """Returns component updates per second of each run, with an engine of ``run_sweep`` or with PyTorch."""
    settings = {"engine": engine} | settings
    measure = torch_rate if engine.startswith("torch") else gpu.rate
    return settings | {"updates_per_second": measure(**settings)}


def grid(seeds: int, engine: str | None = None, lines: Sequence[Line] = (), **settings: Any) -> Facts:
    """Returns the seconds of the default grid.

    Args:
      seeds: seeds per cell.
      engine: engine of ``run_sweep``; default: the kernel with the highest rate on this kind of device.
      lines: lines measured on this kind of device.
      settings: other arguments of ``grid_seconds``.
    """
    arguments: Facts = {"engine": engine or fastest_kernel(lines), "seeds": seeds}
    return arguments | gpu.grid_seconds(**arguments, **settings)


def fastest_kernel(lines: Sequence[Line]) -> str:
    """Returns the kernel with the highest rate.

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
    """Returns the component updates per second of PyTorch, eager or compiled.

    Raises:
      Missing: PyTorch is not installed.
    """
    need_torch()
    import torch

    from benchmarks import peers, rates

    device = "cuda" if torch.cuda.is_available() else "cpu"
    w, w_star = (torch.from_numpy(v).to(device) for v in rates.starts(d, lanes))
    step = torch.compile(peers.torch_step) if engine == "torch-compiled" else peers.torch_step
    few, per_second = max(1, steps // 10), []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        w = peers.torch_lanes(penalty, w, w_star, few, step)
        if device == "cuda":
            torch.cuda.synchronize()
        per_second.append(lanes * d * few / (time.perf_counter() - started))
    return per_second[1:]
