"""Component updates per second of the sweep at a fixed number of steps, compared with every peer, and scaling of time.

rvsmjax runs all of ``run_sweep``: draws (shared by eight cells), steps, residual checks and the certificate. The peers
run only the steps.
"""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import rvsmjax as rv
from benchmarks import numpy_rvsm, peers

CODES = {"l1": 0, "l0": 1, "tl1": 2}
NEVER = 1e-30
"""A tolerance so small that a lane reaches it only if it does not move at all."""


def ours(penalty: str, d: int, lanes: int, steps: int, devices: Any, repeats: int, engine: str = "auto") -> list[float]:
    """Returns component updates per second of some runs, counting only the steps that lanes needed."""
    grid = rv.Grid(penalty=penalty, d=d, k=2, lam=np.geomspace(1e-5, 1e-3, 8).tolist(), seeds=lanes // 8)
    rates = []
    for _ in range(repeats + 1):
        result = rv.run_sweep(grid, tol=NEVER, max_steps=steps, devices=devices, engine=engine)
        rates.append(result.steps_needed * d / result.run_seconds)
    return rates[1:]


def starts(d: int, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random unit vectors w and w*."""
    drawn = np.random.default_rng(0).normal(size=(2, lanes, d)).astype(np.float32)
    w, w_star = drawn / np.linalg.norm(drawn, axis=2, keepdims=True)
    return w, w_star


def foreign(penalty: str, d: int, steps: int) -> dict[str, Callable[[], tuple[int, Any]]]:
    """Returns the peers' runs, by name; each returns its number of component updates, and w."""
    runs: dict[str, Callable[[], tuple[int, Any]]] = {}
    w, w_star = starts(d, 4096)
    k = np.full(len(w), 2, np.float32)
    runs["NumPy, all lanes at once"] = lambda: (w.size * steps, numpy_rvsm.advance(penalty, w, w_star, k, steps))
    few = 2
    runs["Python, a lane at a time"] = lambda: (
        few * d * steps,
        peers.python_lane(penalty, w[:few], w_star[:few], steps),
    )
    if (numba := peers.numba_lanes()) is not None:
        runs["Numba, parallel"] = lambda: (w.size * steps, numba(CODES[penalty], w, w_star, steps))
    if importlib.util.find_spec("torch") is not None:
        import torch

        v, v_star = torch.from_numpy(w), torch.from_numpy(w_star)
        for name, one in (("PyTorch", peers.torch_step), ("PyTorch, compiled", torch.compile(peers.torch_step))):
            run = functools.partial(peers.torch_lanes, penalty, v, v_star, steps, one)
            runs[name] = functools.partial(lambda run: (w.size * steps, run()), run)
    return runs


def measure(
    penalties: tuple[str, ...] = ("l1", "l0", "tl1"),
    d: tuple[int, ...] = (10, 50, 200),
    lanes: int = 65_536,
    steps: int = 1000,
    repeats: int = 5,
) -> list[dict[str, Any]]:
    """Returns medians and ranges of component updates per second by penalty and d, for rvsmjax and the peers."""
    devices = jax.devices()
    results = []
    for penalty in penalties:
        for width in d:
            rates: dict[str, list[float]] = {
                "ours, all cores": ours(penalty, width, lanes, steps, devices, repeats),
                "ours, one core": ours(penalty, width, lanes, steps, devices[:1], repeats),
            }
            if penalty == "l1":
                for name, threads in (("C by hand, all cores", len(devices)), ("C by hand, one core", 1)):
                    measured = [peers.by_hand(width, lanes, steps, threads) for _ in range(min(repeats, 3))]
                    rates |= {name: [rate for rate in measured if rate is not None]} if any(measured) else {}
            for name, run in foreign(penalty, width, min(steps, 100)).items():
                run()
                rates[name] = []
                for _ in range(min(repeats, 3)):
                    started = time.perf_counter()
                    updates, _ = run()
                    rates[name].append(updates / (time.perf_counter() - started))
            medians = {name: [float(np.median(r)), min(r), max(r)] for name, r in rates.items()}
            results.append({"penalty": penalty, "d": width, "updates/s": medians})
    return results


def scaling(repeats: int = 3, most_lanes: int = 10_000_000) -> dict[str, Any]:
    """Returns seconds to convergence (l1) over lanes, d and k, each with the exponent of a fitted power law."""
    scaling_by_axis: dict[str, Any] = {}
    lanes = [10**e for e in range(3, 8) if 10**e <= most_lanes]
    axes: dict[str, list[dict[str, Any]]] = {
        "lanes": [{"d": 20, "k": 2, "seeds": n} for n in lanes],
        "d": [{"d": n, "k": 2, "seeds": 20_000} for n in (10, 20, 50, 100, 200)],
        "k": [{"d": 20, "k": n, "seeds": 20_000} for n in (1, 2, 5, 10, 20, 50)],
    }
    for axis, settings in axes.items():
        seconds = []
        for sizes in settings:
            grid = rv.Grid(penalty="l1", **sizes)
            rv.run_sweep(grid)
            seconds.append(float(np.median([rv.run_sweep(grid).run_seconds for _ in range(repeats)])))
        values = [sizes["seeds" if axis == "lanes" else axis] for sizes in settings]
        exponent = float(np.polyfit(np.log(values), np.log(seconds), 1)[0])
        scaling_by_axis[axis] = {"values": values, "seconds": seconds, "exponent": exponent}
    return scaling_by_axis


def table(record: dict[str, Any]) -> str:
    """Returns the record as Markdown, in 10⁹ component updates per second."""
    lines = [
        f"{record['machine']}; Python {record['versions']['python']}, JAX {record['versions']['jax']}; "
        f"{record['date']}. 10⁹ component updates per second: median of the runs (least to most).",
    ]
    for result in record["results"]:
        base = result["updates/s"]["ours, all cores"][0]
        lines += ["", f"**{result['penalty']}, d = {result['d']}**", "", "| | 10⁹/s | ours over it |", "|---|--:|--:|"]
        for name, (median, least, most) in result["updates/s"].items():
            spread = f"{median / 1e9:.3g} ({least / 1e9:.3g} to {most / 1e9:.3g})"
            lines.append(f"| {name} | {spread} | {base / median:.2f} |")
    lines += ["", "Seconds to convergence (l1) grow with"]
    for axis, fit in record["scaling"].items():
        pairs = ", ".join(f"{v:,}: {s:.3g} s" for v, s in zip(fit["values"], fit["seconds"], strict=True))
        lines.append(f"- {axis}: exponent {fit['exponent']:.2f} ({pairs})")
    return "\n".join(lines)
