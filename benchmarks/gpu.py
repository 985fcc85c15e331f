"""The sweep on a GPU, in one run of a few minutes: the Pallas kernel beside XLA's loop and PyTorch, and the floor.

``python3 -c "from benchmarks import run; run.main(('gpu',))"``. Without a GPU it runs at a small size, the kernel as
plain JAX: a test that it will run.
"""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rvsmjax as rv
from benchmarks import peers, rates
from rvsmjax.sweep.step import Iteration, Tile

PENALTIES = ("l1", "l0", "tl1")
TERMS = 64
"""Multiply-adds of the floor between a load and a store."""


def measure(
    seeds: tuple[int, ...] = (10_000, 1_000_000),
    d: tuple[int, ...] = (10, 50, 200),
    lanes: int = 1_000_000,
    steps: int = 1000,
    repeats: int = 3,
    engines: tuple[str, ...] = ("pallas", "xla"),
    penalties: tuple[str, ...] = PENALTIES,
) -> dict[str, Any]:
    """Times of the paper's grid, rates at a fixed number of steps, the floor, and how far the CPU's results are.

    Args:
      seeds: of each cell of the paper's grid.
      d: dimensions of the rates.
      lanes: of the rates.
      steps: of the rates.
      repeats: runs of each, after one that compiles.
      engines: of ``run_sweep``.
      penalties: of the grid and the rates.
    """
    return {
        "grid": [_grid(penalties, engine, n, repeats) for n in seeds for engine in engines],
        "rates": [_rates(p, width, lanes, steps, repeats, engines) for p in penalties for width in d],
        "floor": {"operations/s": _floor(lanes, repeats), "operations": {p: _operations(p) for p in PENALTIES}},
        "beside the CPU": [_beside_cpu(penalties, engine) for engine in engines],
    }


def _grid(penalties: tuple[str, ...], engine: str, seeds: int, repeats: int) -> dict[str, Any]:
    grid = rv.Grid(penalty=penalties, k=[2, 5, 10, 20], seeds=seeds)
    first = rv.run_sweep(grid, engine=engine)
    seconds = [rv.run_sweep(grid, engine=engine).run_seconds for _ in range(repeats)]
    own = {"engine": engine, "lanes": grid.size, "compile seconds": first.compile_seconds, "seconds": seconds}
    return own | {"waste": first.steps_executed / first.steps_needed}


def _rates(penalty: str, d: int, lanes: int, steps: int, repeats: int, engines: tuple[str, ...]) -> dict[str, Any]:
    """Component updates per second, whole sweeps of ours, steps alone of PyTorch."""
    found = {engine: rates.ours(penalty, d, lanes, steps, jax.devices()[:1], repeats, engine) for engine in engines}
    if importlib.util.find_spec("torch") is not None:
        import torch

        place = "cuda" if torch.cuda.is_available() else "cpu"
        w, w_star = (torch.from_numpy(v).to(place) for v in rates.starts(d, lanes))
        for name, one in (("PyTorch", peers.torch_step), ("PyTorch, compiled", torch.compile(peers.torch_step))):
            few = max(1, steps // 10)
            found[name] = [lanes * d * few / _torch_seconds(penalty, w, w_star, few, one) for _ in range(repeats + 1)][
                1:
            ]
    return {"penalty": penalty, "d": d, "updates/s": found}


def _torch_seconds(penalty: str, w: Any, w_star: Any, steps: int, one: Any) -> float:
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    started = time.perf_counter()
    peers.torch_lanes(penalty, w, w_star, steps, one)
    wait()
    return time.perf_counter() - started


def _floor(entries: int, repeats: int) -> float:
    """Operations per second of multiply-adds in registers, two operations each."""

    @jax.jit
    def chain(x: jax.Array) -> jax.Array:
        def terms(_: Any, x: jax.Array) -> jax.Array:
            for _ in range(TERMS):
                x = x * 0.999 + 1e-3
            return x

        return jax.lax.fori_loop(0, 20, terms, x)

    x = jnp.zeros(16 * entries)
    chain(x).block_until_ready()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        chain(x).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2 * 20 * TERMS * x.size / min(seconds)


def _operations(penalty: str, d: int = 50, lanes: int = 128) -> float:
    """Operations of a step for each component, as XLA counts them."""
    ones, w = jnp.ones(lanes), jnp.ones((d, lanes))
    like = {"l1": rv.L1(), "l0": rv.L0(), "tl1": rv.TransformedL1(ones)}[penalty]

    def one(w: jax.Array, w_star: jax.Array) -> jax.Array:
        tile = Tile(rv.NoOverlapReLU(2 * ones), like, ones, ones, ones, w_star, normalize=True)
        return Iteration(tile).advance(w, ones > 0, 1)

    found: Any = jax.jit(one).lower(w, w).compile().cost_analysis()
    return float(found["flops"]) / w.size


def _beside_cpu(penalties: tuple[str, ...], engine: str) -> dict[str, Any]:
    """Largest differences from the CPU's results, which runs XLA's loop."""
    grid = rv.Grid(penalty=penalties, d=[10, 50], k=[2, 20], seeds=200)
    here = rv.run_sweep(grid, engine=engine)
    there = rv.run_sweep(grid, devices=jax.devices("cpu")[:1], engine="xla")
    names = ("theta_w", "theta_u", "f_u", "lagrangian")
    apart = {name: float(np.max(np.abs(here.data[name] - there.data[name]))) for name in names}
    same = float(np.mean(here.data["zeros"] == there.data["zeros"]))
    return {"engine": engine, "largest difference": apart, "same zeros": same}


def table(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    versions = record["versions"]
    lines = [
        f"{', '.join(record['devices'])}; Python {versions['python']}, JAX {versions['jax']}, PyTorch "
        f"{versions['torch']}; {record['date']}.",
        "",
        "| paper's grid | lanes | seconds, median (least to most) | compile | waste |",
        "|---|--:|--:|--:|--:|",
    ]
    for own in record["grid"]:
        seconds = own["seconds"]
        spread = f"{np.median(seconds):.3g} ({min(seconds):.3g} to {max(seconds):.3g})"
        lines.append(
            f"| {own['engine']} | {own['lanes']:,} | {spread} | {own['compile seconds']:.1f} s | {own['waste']:.2f} |"
        )
    floor = record["floor"]
    lines += ["", "| 10⁹ component updates/s | " + " | ".join(record["rates"][0]["updates/s"]) + " | of the floor |"]
    lines.append("|---|" + "--:|" * (len(record["rates"][0]["updates/s"]) + 1))
    for own in record["rates"]:
        medians = [float(np.median(r)) for r in own["updates/s"].values()]
        share = max(medians[:2]) * floor["operations"][own["penalty"]] / floor["operations/s"]
        cells = [f"{m / 1e9:.3g}" for m in medians]
        lines.append(f"| {own['penalty']}, d = {own['d']} | " + " | ".join(cells) + f" | {share:.2f} |")
    lines += ["", f"Floor: {floor['operations/s'] / 1e12:.3g} · 10¹² operations/s of multiply-adds in registers;"]
    lines.append("operations a component: " + ", ".join(f"{p} {n:.3g}" for p, n in floor["operations"].items()) + ".")
    for own in record["beside the CPU"]:
        apart = ", ".join(f"{name} {value:.1e}" for name, value in own["largest difference"].items())
        lines.append(
            f"{own['engine']} beside the CPU: {apart}; zeros equal in {100 * own['same zeros']:.2f} % of lanes."
        )
    return "\n".join(lines)
