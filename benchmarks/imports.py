"""Import time of the library beyond that of JAX, in fresh processes.

Measures CPU time, which on a busy machine equals the wall time on an idle one.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

JAX = "import jax, jax.numpy"
WHAT = {
    "jax": JAX,
    "rvsmjax": "import rvsmjax",
    "flax.nnx": "from flax import nnx",
    "rvsmjax.nets": "from rvsmjax import nets",
}
"""The imports, each timed after the previous ones."""


def measure(repeats: int = 7) -> dict[str, list[float]]:
    """Returns the CPU seconds of each import, for every repeat."""
    steps = "; ".join(f"{code}; times.append(time.process_time())" for code in WHAT.values())
    program = f"import time; times = [time.process_time()]; {steps}; print(*times)"
    times_by_import: dict[str, list[float]] = {name: [] for name in WHAT}
    for _ in range(repeats):
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        times = list(map(float, run.stdout.split()))
        for name, start, end in zip(WHAT, times[:-1], times[1:], strict=True):
            times_by_import[name].append(end - start)
    return times_by_import


def table(record: dict[str, Any]) -> str:
    """Returns the record as Markdown: the shortest time over the repeats."""
    versions = record["versions"]
    rows = [
        f"{record['machine']}; Python {versions['python']}, JAX {versions['jax']}; {record['date']}.",
        "",
    ]
    rows += ["| import, each beyond those above | least, in s | largest |", "|---|--:|--:|"]
    rows += [f"| {name} | {min(seconds):.2f} | {max(seconds):.2f} |" for name, seconds in record["results"].items()]
    return "\n".join(rows)
