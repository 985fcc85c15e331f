"""Assembles a kernel's PTX with ptxas and counts the instructions of its loop over steps."""

from __future__ import annotations

import collections
import importlib.util
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

ARCHITECTURE = "sm_90a"


def toolkit() -> Path:
    """Returns the folder of the CUDA tools installed by pip.

    Raises:
      FileNotFoundError: if there is none.
    """
    spec = importlib.util.find_spec("nvidia")
    for location in spec.submodule_search_locations or () if spec else ():
        for folder in sorted(Path(location).glob("cu1*"), reverse=True):
            if (folder / "bin" / "ptxas").exists():
                return folder
    raise FileNotFoundError("ptxas must be installed by pip, as nvidia-cuda-nvcc")


def count(ptx: str, components: float) -> dict[str, Any]:
    """Returns registers, spilled bytes, and counts for the loop over steps: instructions per component, barriers, …

    Args:
      ptx: a module with one kernel.
      components: components of all lanes, divided by the number of threads.

    Raises:
      RuntimeError: if ptxas rejects the module.
    """
    tools = toolkit() / "bin"
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx)
        command = [tools / "ptxas", "-v", f"-arch={ARCHITECTURE}", source, "-o", binary]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        if said.returncode:
            raise RuntimeError(f"ptxas: {said.stderr.strip().splitlines()[0]}")
        text = subprocess.run([tools / "nvdisasm", "-c", binary], capture_output=True, text=True, check=True).stdout
    loop = step_loop(text)
    # ptxas unrolls short loops: the counter then decreases by the number of steps per iteration.
    down = [
        re.search(r"-0x([0-9a-f]+)", operands) for op, operands in loop if op.startswith(("UIADD3", "IADD3", "VIADD"))
    ]
    steps = max([int(match[1], 16) for match in down if match], default=1)
    ops = collections.Counter(op.split(".")[0] for op, _ in loop)
    counts = {
        "instructions": len(loop),
        "instructions_a_component": len(loop) / components,
        "barriers": ops["BAR"],
        "shuffles": ops["SHFL"],
        "local_memory": ops["LDL"] + ops["STL"],
        "fused": ops["FFMA"],
    }
    return {
        "registers": int(re.search(r"Used (\d+) registers", said.stderr)[1]),
        "spilled_bytes": int(re.search(r"(\d+) bytes spill stores", said.stderr)[1]),
        **{name: round(value / steps, 2) for name, value in counts.items()},
    }


def step_loop(disassembly: str) -> list[tuple[str, str]]:
    """Returns operations and operands of the innermost loop with multiplications: the shortest backward branch."""
    labels: dict[str, int] = {}
    code: list[tuple[str, str]] = []
    for line in disassembly.splitlines():
        label = re.match(r"\s*(\.L_x_\d+):", line)
        if label:
            labels[label[1]] = len(code)
        instruction = re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\d+\s+)?([A-Z][A-Z0-9_.]*)\s*(.*?);", line)
        if instruction:
            code.append((instruction[1], instruction[2]))
    loops = []
    for end, (op, operands) in enumerate(code):
        target = re.search(r"(\.L_x_\d+)", operands)
        if op.startswith("BRA") and target and labels.get(target[1], end) < end:
            loop = code[labels[target[1]] : end + 1]
            if any(name.startswith(("FFMA", "FMUL")) for name, _ in loop):
                loops.append(loop)
    return min(loops, key=len, default=[])
