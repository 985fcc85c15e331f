"""How long importing the library takes beyond importing JAX, in fresh processes.

Times are those of the processor: on a machine with other work they are what the clock shows on an idle one.
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
"""What is imported, each after those before it."""


def measure(repeats: int = 7) -> dict[str, list[float]]:
    """Processor seconds of each import, of every repeat."""
    steps = "; ".join(f"{code}; times.append(time.process_time())" for code in WHAT.values())
    program = f"import time; times = [time.process_time()]; {steps}; print(*times)"
    found: dict[str, list[float]] = {name: [] for name in WHAT}
    for _ in range(repeats):
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        times = list(map(float, run.stdout.split()))
        for name, start, end in zip(WHAT, times[:-1], times[1:], strict=True):
            found[name].append(end - start)
    return found


def table(record: dict[str, Any]) -> str:
    """The record as Markdown: the least of the repeats."""
    versions = record["versions"]
    rows = [
        f"{record['machine']}; Python {versions['python']}, JAX {versions['jax']}; {record['date']}.",
        "",
    ]
    rows += ["| import, each beyond those above | least, in s | largest |", "|---|--:|--:|"]
    rows += [f"| {name} | {min(taken):.2f} | {max(taken):.2f} |" for name, taken in record["results"].items()]
    return "\n".join(rows)
