"""RVSM with a fixed number of steps in Numba, PyTorch, plain Python with one lane at a time, and hand-written C.

Each takes unit vectors w and w* of shape (lanes, d) and runs l1, l0 or transformed l1 (a = 1) at k = 2, λ = 1e-4,
β = 4e-3 on the sphere.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

K, LAM, BETA = 2.0, 1e-4, 4e-3
ETA, STEP = 1 / (4 + BETA), LAM / BETA
HERE = Path(__file__).parent


def python_lane(penalty: str, w: np.ndarray, w_star: np.ndarray, steps: int) -> np.ndarray:
    """Runs one lane after another, like a simple script: NumPy on vectors of length d."""
    from benchmarks.numpy_rvsm import prox

    out = w.copy()
    for v, v_star in zip(out, w_star, strict=True):
        for _ in range(steps):
            cosine = np.clip(v @ v_star, -1, 1)
            theta, sine = np.arccos(cosine), np.sqrt((1 - cosine) * (1 + cosine))
            keep, pull = 1 - ETA * (1 / K - sine / (K * np.pi)), ETA * (np.pi - theta) / (K * np.pi)
            u = prox(penalty, v, np.float32(STEP), np.float32(1))
            v[:] = keep * v + pull * v_star - ETA * BETA * (v - u)
            v /= np.sqrt(v @ v)
    return out


@functools.cache
def numba_lanes() -> Any:
    """Returns a function (penalty code, w, w*, steps) -> w that runs lanes on all cores; None without Numba."""
    if importlib.util.find_spec("numba") is None:
        return None
    import numba

    @numba.njit(fastmath=True)
    def shrunk(code: int, x: float) -> float:
        size = abs(x)
        if code == 0:
            return math.copysign(min(size, STEP), x)
        if code == 1:
            return 0.0 if size > math.sqrt(2 * STEP) else x
        t = STEP * 2 if STEP <= 0.25 else math.sqrt(4 * STEP) - 0.5
        if size <= t:
            return x
        phi = math.acos(1 - 27 * STEP / (1 + size) ** 3)
        return math.copysign(size - ((2 / 3) * (1 + size) * math.cos(phi / 3) - 2 / 3 + size / 3), x)

    @numba.njit(parallel=True, fastmath=True)
    def lanes(code: int, w: np.ndarray, w_star: np.ndarray, steps: int) -> np.ndarray:
        out = w.copy()
        n, d = w.shape
        for i in numba.prange(n):
            v, v_star = out[i], w_star[i]
            for _ in range(steps):
                dot = np.float32(0)
                for j in range(d):
                    dot += v[j] * v_star[j]
                cosine = min(max(float(dot), -1.0), 1.0)
                keep = 1 - ETA * (1 / K - math.sqrt(1 - cosine * cosine) / (K * math.pi))
                pull = ETA * (math.pi - math.acos(cosine)) / (K * math.pi)
                square = np.float32(0)
                for j in range(d):
                    v[j] = keep * v[j] + pull * v_star[j] - ETA * BETA * shrunk(code, v[j])
                    square += v[j] * v[j]
                scale = 1 / math.sqrt(square)
                for j in range(d):
                    v[j] *= scale
        return out

    return lanes


def torch_lanes(penalty: str, w: Any, w_star: Any, steps: int, one: Any) -> Any:
    """Runs all lanes at once in PyTorch; ``one`` is ``torch_step``, plain or compiled."""
    for _ in range(steps):
        w = one(penalty, w, w_star)
    return w


def torch_step(penalty: str, w: Any, w_star: Any) -> Any:
    """Returns w after one step of all lanes."""
    import torch

    cosine = (w * w_star).sum(1, keepdim=True).clamp(-1, 1)
    keep = 1 - ETA * (1 / K - ((1 - cosine) * (1 + cosine)).sqrt() / (K * math.pi))
    pull = ETA * (math.pi - cosine.acos()) / (K * math.pi)
    size = w.abs()
    if penalty == "l1":
        gap = w.clamp(-STEP, STEP)
    elif penalty == "l0":
        gap = torch.where(size > math.sqrt(2 * STEP), 0, w)
    else:
        t = STEP * 2 if STEP <= 0.25 else math.sqrt(4 * STEP) - 0.5
        phi = (1 - 27 * STEP / (1 + size) ** 3).clamp(-1, 1).acos()
        far = w.sign() * ((2 / 3) * (1 + size) * (phi / 3).cos() - 2 / 3 + size / 3)
        gap = w - torch.where(size > t, far, 0)
    w = keep * w + pull * w_star - ETA * BETA * gap
    return w / w.norm(dim=1, keepdim=True)


def by_hand(d: int, lanes: int, steps: int, threads: int) -> float | None:
    """Returns component updates per second of ``limit.c`` (l1 only); None without a C compiler."""
    if shutil.which("cc") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "limit"
        flags = ["-O3", "-march=native", "-ffast-math", "-mprefer-vector-width=512", "-fopenmp"]
        subprocess.run(["cc", *flags, str(HERE / "limit.c"), "-o", str(program), "-lm"], check=True)
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        command = [str(program), str(d), str(lanes), str(steps)]
        shown = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return float(re.findall(r"([\d.]+) G component", shown)[0]) * 1e9
