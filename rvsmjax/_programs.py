"""Operations of a traced program, and memory that it can use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax


def free_memory(devices: Sequence[Any]) -> int:
    """Returns the free bytes of the host or, if smaller, the free bytes of the local devices in total."""
    try:
        with open("/proc/meminfo") as lines:
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        has_sysconf = hasattr(os, "sysconf")
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if has_sysconf else 2**62
    local = [d for d in devices if d.platform != "cpu" and d.process_index == jax.process_index()]
    stats = [device.memory_stats() or {} for device in local]
    if stats and all("bytes_limit" in s for s in stats):
        free = min(free, sum(s["bytes_limit"] - s.get("bytes_in_use", 0) for s in stats))
    return free


def operations(jaxpr: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields each operation of a program, those of its functions and loops too, and the shape of its first result."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    for equation in jaxpr.eqns:
        yield equation.primitive.name, equation.outvars[0].aval.shape if equation.outvars else ()
        for part in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(part, "eqns") or hasattr(part, "jaxpr"):
                yield from operations(part)
