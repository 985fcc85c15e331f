"""Tables of the results for the documentation page."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ..reports.document import fill
from . import records
from .paths import Paths
from .records import Line

MARKER = "accelerator"
NOTHING = "Not yet measured."
BEGINNING = f"<!-- {MARKER} -->\n{NOTHING}\n<!-- end -->\n"


def rates_by_engine(lines: Sequence[Line]) -> dict[tuple[str, str, int], dict[str, float]]:
    """Returns the median component updates per second by (kind of device, penalty, d) and engine."""
    rates: dict[tuple[str, str, int], dict[str, float]] = {}
    for line in _results(lines, "rates"):
        result = line["result"]
        key = (line["device_kind"], result["penalty"], result["d"])
        rates.setdefault(key, {})[result["engine"]] = statistics.median(result["updates_per_second"])
    return rates


def write_page(paths: Paths) -> None:
    """Writes the tables of all committed lines between the markers of the page."""
    if not paths.page.exists():
        paths.page.parent.mkdir(parents=True, exist_ok=True)
        paths.page.write_text(BEGINNING, encoding="utf-8")
    fill(paths.page, MARKER, page(records.read(paths.record)))


def page(lines: Sequence[Line]) -> str:
    """Returns the tables as Markdown."""
    if not any(line.get("kind") == "result" for line in lines):
        return NOTHING
    parts = []
    for card in dict.fromkeys(line["device_kind"] for line in lines):
        here = [line for line in lines if line["device_kind"] == card]
        tables = [make(here) for make in (_ceilings, _equal, _rates, _grids, _images, _trainings, _failed)]
        versions = ", ".join(dict.fromkeys(line["jax"] for line in here))
        days = sorted({line["date"][:10] for line in here})
        parts += [f"### {card}", f"JAX {versions}; {days[0]}" + f" to {days[-1]}" * (len(days) > 1) + "."]
        parts += [table for table in tables if table]
    return "\n\n".join(parts)


def _results(lines: Sequence[Line], *jobs: str) -> list[Line]:
    """Returns the results of jobs, the last one of each row."""
    results = {
        (line["id"], line["device_kind"]): line for line in lines if line["kind"] == "result" and line["job"] in jobs
    }
    return list(results.values())


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], labels: int = 1) -> str:
    if not rows:
        return ""
    align = ["---"] * labels + ["--:"] * (len(columns) - labels)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, align, *rows))


def _spread(values: Sequence[float], unit: float = 1.0) -> str:
    """Returns the median, least and most."""
    median, least, most = (value / unit for value in (statistics.median(values), min(values), max(values)))
    return f"{median:,.4g} ({least:,.4g} to {most:,.4g})"


def _ceilings(lines: Sequence[Line]) -> str:
    units = {
        "bytes_per_second": ("copy, read and written", 1e12, "TB/s"),
        "bfloat16": ("product of matrices, bfloat16", 1e12, "TFLOP/s"),
        "float32": ("product of matrices, float32", 1e12, "TFLOP/s"),
        "operations_per_second": ("fused multiply-adds in registers", 1e12, "TFLOP/s"),
    }
    rates: Line = {}
    for line in _results(lines, "probe"):
        rates |= line["result"]
    rows = [[label, f"{rates[name] / unit:.3g} {word}"] for name, (label, unit, word) in units.items() if name in rates]
    return _table(["what the device can do at most", ""], rows)


def _equal(lines: Sequence[Line]) -> str:
    rows = []
    for line in _results(lines, "equal"):
        numbers = [f"{name} {_number(value)}" for name, value in line["result"].items() if name != "engine"]
        rows.append([line["result"]["engine"], "; ".join(numbers)])
    return _table(["engine", "largest differences from the CPU's results"], rows, labels=2)


def _number(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_number(item)}" for name, item in value.items())
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _rates(lines: Sequence[Line]) -> str:
    table = rates_by_engine(lines)
    engines = list(dict.fromkeys(engine for rates in table.values() for engine in rates))
    rows = []
    for (_, penalty, d), rates in table.items():
        cells = [f"{rates[engine] / 1e9:,.4g}" if engine in rates else "" for engine in engines]
        kernels = [rate for engine, rate in rates.items() if engine != "xla" and not engine.startswith("torch")]
        ratio = f"{max(kernels) / rates['xla']:.2f}" if kernels and "xla" in rates else ""
        rows.append([f"{penalty}, d = {d}", *cells, ratio])
    return _table(["10⁹ component updates/s", *engines, "kernel over loop"], rows)


def _grids(lines: Sequence[Line]) -> str:
    rows = []
    for line in _results(lines, "grid", "grid-many"):
        result = line["result"]
        seconds = _spread(result["seconds"]) if "seconds" in result else ""
        rows.append([result["engine"], f"{result['seeds']:,}", seconds])
    return _table(["default grid", "seeds of a cell", "seconds: median (least to most)"], rows)


def _images(lines: Sequence[Line]) -> str:
    rows: list[list[str]] = []
    base: dict[str, float] = {}
    for line in _results(lines, "images"):
        rate = statistics.median(line["result"]["images_per_second"])
        base.setdefault(line["part"], rate)
        rows.append([line["part"], line["row"], f"{rate:,.0f}", f"{rate / base[line['part']]:.2f}"])
    return _table(["network", "training", "images/s", "over the first"], rows, labels=2)


def _trainings(lines: Sequence[Line]) -> str:
    rows = []
    for line in _results(lines, "train"):
        run = line["result"]
        names = ("test_accuracy_u", "test_accuracy_w", "zeros")
        percents = [f"{100 * run[name]:.2f}" if name in run else "" for name in names]
        rows.append([run["run"], *percents, f"{run['seconds_per_epoch']:.2f}", f"{line['seconds']:.0f}"])
    return _table(["training", "accuracy of u, %", "of w", "zeros, %", "s an epoch", "s in all"], rows)


def _failed(lines: Sequence[Line]) -> str:
    measured = {line["id"] for line in lines if line["kind"] == "result"}
    errors = {line["id"]: line["error"] for line in lines if line["kind"] in ("failed", "stopped")}
    rows = [[name, error.replace("|", "\\|")] for name, error in errors.items() if name not in measured]
    return _table(["not measured", "why"], rows, labels=2)
