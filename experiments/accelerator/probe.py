"""Properties of the device and its peak rates: copies, matrix products, fused multiply-adds."""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

from ..records.folder import Facts

REPEATS = 10


def measure(name: str, size: int) -> Facts:
    """Returns the result of one row of the probe.

    Args:
      name: ``device``, ``copy``, ``products`` or ``fma floor``.
      size: side length of the matrices.
    """
    if name == "device":
        return device()
    if name == "copy":
        return {"bytes_per_second": copy(64 * size * size)}
    if name == "products":
        return {dtype: product(dtype, size) for dtype in ("bfloat16", "float32")}
    from benchmarks import gpu

    return {"operations_per_second": gpu.fma_floor()}


def device() -> Facts:
    """Returns versions, memory and the serialized topology (base64), for which other machines can compile programs."""
    import jax
    from jax.experimental import topologies

    from ..records.environment import usable_cores

    first = jax.devices()[0]
    stats: dict[str, int] = {}
    with contextlib.suppress(Exception):  # not on every platform
        stats = first.memory_stats() or {}
    facts = {
        "platform": first.platform,
        "platform_version": first.client.platform_version,
        "driver": nvidia_smi("driver_version"),
        "devices": len(jax.devices()),
        "memory_bytes": stats.get("bytes_limit"),
        "python": platform.python_version(),
        "jaxlib": importlib.metadata.version("jaxlib"),
        "cores": usable_cores(),
    }
    try:
        topology: Any = topologies.get_attached_topology()
        facts["topology"] = base64.b64encode(topology.serialize()).decode()
    except Exception as error:  # not on every platform
        facts["topology_missing"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return facts


def nvidia_smi(field: str) -> str | None:
    """Returns a property of the first NVIDIA GPU, or None."""
    query = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def copy(size: int) -> float:
    """Returns bytes read and written per second by x + 1 for an array of ``size`` bytes."""
    import jax
    import jax.numpy as jnp

    x = jnp.zeros(size // 4, jnp.float32)
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    held = [add(x)]

    def once() -> jax.Array:
        held[0] = add(held[0])
        return held[0]

    return 2 * size / seconds(once)


def product(dtype: str, size: int) -> float:
    """Returns operations per second of a product of two random square matrices, float32 in full precision."""
    import jax
    import jax.numpy as jnp

    a, b = (jax.random.normal(jax.random.key(i), (size, size), jnp.dtype(dtype)) for i in (0, 1))
    multiply = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest" if dtype == "float32" else None))
    return 2 * size**3 / seconds(lambda: multiply(a, b))


def seconds(once: Callable[[], object]) -> float:
    """Returns the median time of a blocking call, after two warm-up calls."""
    import jax

    times = []
    for _ in range(REPEATS + 2):
        started = time.perf_counter()
        jax.block_until_ready(once())
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])
