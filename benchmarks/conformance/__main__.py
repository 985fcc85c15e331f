"""python -m benchmarks.conformance [--peers PYTHON]: all cases; prints and writes docs/conformance.md.

The peers are no dependencies: ``PYTHON`` is an interpreter of an environment that has them. Those it lacks are skipped.
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from experiments.reports.document import fill

from . import libraries
from .build import CASES
from .scores import Score, score

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "conformance.md"
VERDICTS = ("exact", "near", "wrong", "outside")


def ours(cases: list[dict[str, Any]]) -> list[Any]:
    """Returns our results, in the dtype of each case."""
    out: list[Any] = [None] * len(cases)
    for dtype in ("float32", "float64"):
        chosen = [i for i, case in enumerate(cases) if case["dtype"] == dtype]
        with jax.enable_x64(dtype == "float64"):
            for i, result in zip(chosen, libraries.run("rvsmjax", [cases[i] for i in chosen]), strict=True):
                out[i] = result
    return out


def peer(name: str, python: str, cases: list[dict[str, Any]]) -> tuple[str, list[Any]] | None:
    """Returns the version of a peer and its results in float64; None where it is not installed."""
    run = subprocess.run(
        [python, str(HERE / "libraries.py"), name], input=json.dumps(cases), capture_output=True, text=True, check=False
    )
    if run.returncode:
        print(f"{name} skipped: {(run.stderr.strip().splitlines() or ['no message'])[-1]}", file=sys.stderr)
        return None
    found = json.loads(run.stdout)
    return found["version"], found["results"]


def table(name: str, cases: list[dict[str, Any]], results: list[Any]) -> list[str]:
    """Returns the rows of a library, one for each function it has."""
    scores: dict[str, list[tuple[dict[str, Any], Score]]] = collections.defaultdict(list)
    for case, result in zip(cases, results, strict=True):
        if result is not None:
            scores[case["function"]].append((case, score(name, case, result)))
    rows = []
    for function, found in scores.items():
        counts = collections.Counter(verdict.verdict for _, verdict in found)
        failed = dict.fromkeys(case["about"] for case, verdict in found if verdict.verdict == "wrong")
        shown = "; ".join(list(failed)[:4]) + (f"; {len(failed) - 4} more" if len(failed) > 4 else "")
        numbers = " | ".join(str(counts[verdict] or "") for verdict in VERDICTS)
        rows.append(f"| {name} | {function} | {len(found)} | {numbers} | {shown} |")
    return rows


def main() -> None:
    """Runs the libraries and writes the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conformance", description=__doc__)
    parser.add_argument("--peers", default=sys.executable, help="an interpreter that has the peers")
    python = parser.parse_args().peers
    cases = json.loads(CASES.read_text(encoding="utf-8"))
    double = [case for case in cases if case["dtype"] == "float64"]
    versions, rows = {"rvsmjax": libraries.version("rvsmjax")}, table("rvsmjax", cases, ours(cases))
    for name in libraries.LIBRARIES:
        if name != "rvsmjax" and (found := peer(name, python, double)) is not None:
            versions[name] = found[0]
            rows += table(name, double, found[1])
    text = "\n".join(
        [
            ", ".join(f"{name} {number}" for name, number in versions.items()) + f"; {len(cases)} cases.",
            "",
            "| library | function | cases | exact | near | wrong | outside | wrong where |",
            "|---|---|--:|--:|--:|--:|--:|---|",
            *rows,
        ]
    )
    print(text)
    fill(PAGE, "conformance", text)


if __name__ == "__main__":
    main()
