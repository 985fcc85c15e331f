"""Compile check for accelerators, run on a machine without one; writes a table of the results.

``make check-accelerators``. Creates environments for the oldest and the newest Python available, hence two versions of
JAX, from ``requirements/accelerators.lock``. Each program is compiled for an H100 or a v5e in a separate process: if
the compiler crashes, the row fails with the name of the signal. ptxas assembles the kernels. The record goes to
``benchmarks/results/compiled.json``, the tables between the markers of ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.run import processor
from experiments.reports.document import fill

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / "build" / "accelerators"
LOCK = ROOT / "requirements" / "accelerators.lock"
RECORD, PAGE = ROOT / "benchmarks" / "results" / "compiled.json", ROOT / "benchmarks" / "README.md"
MINUTES = 8
"""Timeout of a case."""
DEFAULT: dict[str, Any] = {"k": [2, 5, 10, 20]}
NETS = ("resnet18", "vgg16")

Case = dict[str, Any]


def cases() -> dict[str, Case]:
    """Returns the programs to compile by name, the slowest first."""
    named: dict[str, Case] = {}
    for net in NETS:
        named[f"epoch of {net}, l0, v5e"] = {"kind": "training", "platform": "tpu", "net": net, "method": "l0"}
    for net in NETS:
        for method in ("sgd", "l0"):
            case = {"kind": "training", "platform": "cuda", "net": net, "method": method}
            named[f"epoch of {net}, {method}, H100"] = case
    grid = {"kind": "sweep", "axes": DEFAULT}
    named["default grid, loop, v5e"] = grid | {"platform": "tpu", "engine": "auto"}
    for engine in ("cuda", "pallas", "xla"):
        named[f"default grid, {engine}, H100"] = grid | {"platform": "cuda", "engine": engine}
    for d in (10, 50, 200):
        axes = {"penalty": ["l1", "l0", "tl1"], "d": d, "lam": [1e-5, 1e-4, 1e-3]}
        named[f"rates at d = {d}, cuda, H100"] = grid | {"platform": "cuda", "engine": "cuda", "axes": axes}
    for activation in ("relu", "binary"):
        for normalize in (True, False):
            where = "sphere" if normalize else "free"
            kernels: Case = {"kind": "kernels", "activation": activation, "normalize": normalize}
            named[f"CUDA kernels, {activation}, {where}"] = kernels
    for penalty in ("l1", "tl1"):
        for d in (10, 50, 200):
            named[f"Pallas kernel, {penalty}, d = {d}"] = {"kind": "pallas", "penalty": penalty, "d": d}
    return named


def interpreters() -> list[str]:
    """Returns the oldest and the newest available Python that the project supports."""
    candidates = [f"python3.{minor}" for minor in range(11, 20)] + ["python3"]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates += [str(path) for path in sorted(pyenv.glob("3.*/bin/python3"))] + [sys.executable]
    by_version: dict[tuple[int, int], str] = {}
    for python in filter(None, map(shutil.which, candidates)):
        code = "import sys, venv; print(*sys.version_info[:2])"
        probe = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        if probe.returncode == 0:
            major, minor = map(int, probe.stdout.split())
            if (major, minor) >= (3, 11):
                by_version.setdefault((major, minor), python)
    versions = sorted(by_version)
    return [by_version[version] for version in dict.fromkeys((versions[0], versions[-1]))]


def environment(python: str) -> str:
    """Returns the interpreter of an environment with both compilers; creates the environment if needed."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    folder = ENVIRONMENTS / f"python{version}"
    interpreter, stamp = folder / "bin" / "python", folder / ".ready"
    if not stamp.exists() or stamp.read_text() != LOCK.read_text():
        print(f"Creating {folder.relative_to(ROOT)}", flush=True)
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        options = ["-qq", "--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes"]
        subprocess.run([interpreter, "-m", "pip", "install", *options, "-r", LOCK], check=True)
        stamp.write_text(LOCK.read_text())
    return str(interpreter)


def compile_case(python: str, case: Case) -> dict[str, Any]:
    """Returns the measurements printed by a case's process, or the reason of its failure."""
    command = [python, "-m", "tools.compile_program", json.dumps(case)]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60 * MINUTES, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"timed out after {MINUTES} minutes"}
    if done.returncode < 0:
        return {"failed": f"killed by {signal.Signals(-done.returncode).name}"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        errors = [line for line in done.stderr.strip().splitlines() if "Error" in line] or ["no error message"]
        return {"failed": errors[-1][:300]}
    measured: dict[str, Any] = json.loads(lines[-1])
    return measured


def check(pythons: list[str], chosen: dict[str, Case]) -> list[dict[str, Any]]:
    """Runs all cases in all environments, two at a time; returns their rows."""
    rows = [(python, name, case) for python in pythons for name, case in chosen.items()]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:

        def run(row: tuple[str, str, Case]) -> dict[str, Any]:
            python, name, case = row
            result = {"name": name, **compile_case(python, case)}
            outcome = result.get("failed") or f"{result['compile_cpu_seconds']} CPU seconds"
            print(f"JAX {result.get('jax', '?')}, {name}: {outcome}", flush=True)
            return result

        return list(pool.map(run, rows))


def tables(record: dict[str, Any]) -> str:
    """Returns the record as Markdown."""
    versions = [jax for jax in dict.fromkeys(row.get("jax") for row in record["rows"]) if jax]
    lines = [
        f"{record['machine']}; {record['date']}. Seconds of CPU time to compile, after tracing; temporaries of "
        "the program in MB.",
        "",
        "| program | " + " | ".join(f"JAX {version} | MB" for version in versions) + " |",
        "|---|" + "--:|" * (2 * len(versions)),
    ]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in record["rows"]:
        by_name.setdefault(row["name"], []).append(row)
    for name, rows in by_name.items():
        if not all("kernels" in row and "temporaries" not in row for row in rows):
            cells = []
            for row in rows:
                size = f"{row['temporaries'] / 1e6:,.0f}" if "temporaries" in row else ""
                cells += [row.get("failed") or f"{row['compile_cpu_seconds']:.1f}", size]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    columns = (
        "registers",
        "spilled_bytes",
        "instructions_a_component",
        "barriers",
        "shuffles",
        "fused",
        "local_memory",
    )
    lines += [
        "",
        "Kernels on an H100, by the last JAX of the table; instructions are those of the loop over steps, for each "
        "component and step; barriers, shuffles, fused multiply-adds and accesses to local memory for each step.",
        "",
        "| kernel | registers | bytes spilled | instructions | barriers | shuffles | fused | local memory |",
        "|---|" + "--:|" * len(columns),
    ]
    for name, rows in by_name.items():
        for kernel, counts in rows[-1].get("kernels", {}).items():
            label = kernel if name.endswith(kernel) else ", ".join([kernel, *name.split(", ")[1:]])
            values = " | ".join(f"{counts[column]:g}" for column in columns)
            lines.append(f"| {name.split(',')[0].removesuffix('s')}, {label} | {values} |")
    return "\n".join(lines)


def main() -> int:
    """Runs the check; returns exit code 1 if a row failed."""
    parser = argparse.ArgumentParser(prog="make check-accelerators", description=__doc__)
    parser.add_argument(
        "--python", nargs="+", metavar="PATH", help="interpreters of environments that have both compilers"
    )
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="run only cases whose name contains TEXT; other rows are kept"
    )
    options = parser.parse_args()
    chosen = {name: case for name, case in cases().items() if options.only in name}
    if not chosen:
        parser.error(f"--only must be part of a case's name, got {options.only!r}")
    started = time.monotonic()
    pythons = options.python or [environment(python) for python in interpreters()]
    rows = check(pythons, chosen)
    kept = json.loads(RECORD.read_text(encoding="utf-8"))["rows"] if options.only and RECORD.exists() else []
    # Sorted by case; within a case, the oldest JAX comes first.
    by_key = {(row["name"], row.get("jax")): row for row in [*kept, *rows]}
    order = list(cases())
    merged = sorted(by_key.values(), key=lambda row: order.index(row["name"]) if row["name"] in order else len(order))
    record = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "minutes": round((time.monotonic() - started) / 60, 1),
        "rows": merged,
    }
    print(text := tables(record))
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    fill(PAGE, "compiled", text)
    return int(any("failed" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
