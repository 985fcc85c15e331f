"""The sweep measurements of the accelerator queue: rates, grids, deviations from the CPU, and the GPU's peak rate.

``experiments.accelerator`` runs these on a rented GPU and records the results.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rvsmjax as rv
from benchmarks import rates
from rvsmjax.sweep._tiles import cuda

PENALTIES = ("l1", "l0", "tl1")
COMPARED = ("theta_w", "theta_u", "f_u", "lagrangian")
CHAINS, TERMS, ROUNDS = 8, 32, 4096
"""For ``fma_floor``: independent multiply-adds per thread, dependent ones in sequence, and rounds of them."""


def rate(penalty: str, d: int, engine: str, lanes: int, steps: int, repeats: int) -> list[float]:
    """Returns component updates per second of some runs of a whole sweep, after one warm-up run."""
    return rates.ours(penalty, d, lanes, steps, jax.devices()[:1], repeats, engine)


def grid_seconds(
    engine: str,
    seeds: int,
    repeats: int,
    penalties: Sequence[str] = PENALTIES,
    d: Sequence[int] = (10, 20, 30, 40, 50),
    k: Sequence[int] = (2, 5, 10, 20),
) -> dict[str, Any]:
    """Returns the times of the default grid: compilation, runs on the device, and calls until the host has the result.

    Args:
      engine: engine of ``run_sweep``.
      seeds: seeds per cell.
      repeats: number of runs, after one that compiles.
      penalties, d, k: axes of the grid.
    """
    grid = rv.Grid(penalty=list(penalties), d=list(d), k=list(k), seeds=seeds)
    runs: list[float] = []
    calls: list[float] = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        result = rv.run_sweep(grid, engine=engine)
        calls.append(time.perf_counter() - started)
        if not runs:
            compile_seconds, counts = result.compile_seconds, result.counts
            waste = result.steps_executed / result.steps_needed
        runs.append(result.run_seconds)
        del result  # free the memory for the next result
    return {
        "lanes": grid.size,
        "compile_seconds": compile_seconds,
        "seconds": runs[1:],
        "call_seconds": calls[1:],
        "waste": waste,
        "counts": counts,
    }


def beside_cpu(
    engine: str,
    penalties: Sequence[str] = PENALTIES,
    d: Sequence[int] = (10, 50),
    k: Sequence[int] = (2, 20),
    seeds: int = 200,
) -> dict[str, Any]:
    """Returns the largest differences from the results of the XLA loop on the CPU."""
    grid = rv.Grid(penalty=list(penalties), d=list(d), k=list(k), seeds=seeds)
    here = rv.run_sweep(grid, engine=engine)
    there = rv.run_sweep(grid, devices=jax.devices("cpu")[:1], engine="xla")
    apart = {name: float(np.max(np.abs(here.data[name] - there.data[name]))) for name in COMPARED}
    same = float(np.mean(here.data["zeros"] == there.data["zeros"]))
    return {"largest_difference": apart, "share_of_lanes_with_the_same_zeros": same}


def fma_floor(blocks: int = 132 * 32, repeats: int = 5) -> float:
    """Returns the operations per second (two per multiply-add) of fused multiply-adds in registers: the peak rate.

    A product and a sum written in JAX do not measure this, because XLA does not fuse them.

    Args:
      blocks: number of blocks of 64 threads; enough to keep the GPU busy.
      repeats: number of runs, after one warm-up run.

    Raises:
      LookupError: if the default device is not an NVIDIA GPU.
    """
    if jax.devices()[0].platform != "gpu":
        raise LookupError(f"the floor needs an NVIDIA GPU, got the {jax.devices()[0].platform} device")
    run = jax.jit(lambda x: cuda.launch(floor_kernel(), blocks, (x,), [jax.ShapeDtypeStruct(x.shape, x.dtype)]))
    x, seconds = jnp.ones(blocks * cuda.BLOCK), []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        jax.block_until_ready(run(x))
        seconds.append(time.perf_counter() - started)
    return 2 * CHAINS * TERMS * ROUNDS * x.size / float(np.median(seconds[1:]))


def floor_kernel(rounds: int = ROUNDS) -> str:
    """Returns a kernel whose threads each run ``CHAINS``·``TERMS``·rounds multiply-adds and store the sum."""
    chains = [f"%f{i}" for i in range(CHAINS)]
    body = [f"fma.rn.f32 {x}, {x}, 0f3F7FBE77, 0f3A83126F;" for _ in range(TERMS) for x in chains]  # 0.999x + 0.001
    lines = [
        cuda.HEADER,
        f".visible .entry {cuda.NAME}(.param .u64 x, .param .u64 out)",
        f".maxntid {cuda.BLOCK}, 1, 1",
        "{",
        f".reg .f32 %f<{CHAINS + 1}>;",
        ".reg .u32 %u<4>;",
        ".reg .pred %p<2>;",
        ".reg .b64 %d<4>;",
        "mov.u32 %u0, %tid.x;",
        "mov.u32 %u1, %ctaid.x;",
        f"mad.lo.u32 %u0, %u1, {cuda.BLOCK}, %u0;",
        "mul.wide.u32 %d0, %u0, 4;",
        "ld.param.u64 %d1, [x];",
        "add.s64 %d1, %d1, %d0;",
        "ld.global.f32 %f0, [%d1];",
        *[f"add.f32 {x}, %f0, 0f{0x3F800000 + i:08X};" for i, x in enumerate(chains[1:])],
        f"mov.u32 %u2, {rounds};",
        "ROUND:",
        *body,
        "sub.u32 %u2, %u2, 1;",
        "setp.ne.u32 %p0, %u2, 0;",
        "@%p0 bra ROUND;",
        *[f"add.f32 %f0, %f0, {x};" for x in chains[1:]],
        "ld.param.u64 %d2, [out];",
        "add.s64 %d2, %d2, %d0;",
        "st.global.f32 [%d2], %f0;",
        "ret;",
        "}",
        "",
    ]
    return "\n".join(lines)
