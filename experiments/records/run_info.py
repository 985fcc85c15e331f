"""What a record tells of its run, in words: configuration, versions, commit, devices, times, waste."""

from __future__ import annotations

import collections
from collections.abc import Iterator

from .folder import Facts

HIDDEN = {"out", "overwrite", "quiet"}
"""Flags that say nothing of what came out."""


def groups(run: Facts) -> dict[str, dict[str, str]]:
    """Returns what ``config.json`` holds, as names and texts in groups."""
    seconds = {name: duration(value) for name, value in run.get("seconds", {}).items()}
    rest = {name: value for name, value in run.items() if name not in ("config", "versions", "seconds", "command")}
    commit, devices = rest.pop("commit", None), rest.pop("devices", [])
    memory = rest.pop("peak_memory_bytes", None)
    found = {"commit": _commit(commit, 40), "devices": _devices(devices)}
    found |= {name: _text(value) for place, value in rest.items() for name, value in _flat(place, value)}
    if memory is not None:
        found["peak memory"] = f"{memory / 1e9:.2f} GB"
    config = {name: value for name, value in run["config"].items() if name not in HIDDEN}
    return {
        "Configuration": {name.replace("_", " "): _text(value) for name, value in config.items()},
        "Run": found,
        "Time": seconds | ({"all": duration(sum(run["seconds"].values()))} if seconds else {}),
        "Versions": {name: _text(value) for name, value in run.get("versions", {}).items()},
    }


def tiles(run: Facts) -> list[tuple[str, str, str]]:
    """Returns the facts that come first: what, how much, and a remark."""
    found = []
    if "lanes" in run:
        status = run.get("status", {})
        ended = [f"{count:,} {name}" for name, count in status.items() if count and name != "converged"]
        found.append(("lanes", f"{run['lanes']:,}", ", ".join(ended) or ("all converged" if status else "")))
    if "runs" in run:
        found.append(("finished runs", f"{run['runs']:,}", ""))
    if run.get("seconds"):
        phase, longest = max(run["seconds"].items(), key=lambda item: item[1])
        found.append(("time", duration(sum(run["seconds"].values())), f"{phase} {duration(longest)}"))
    if "lanes_per_second" in run:
        found.append(("lanes per second", f"{run['lanes_per_second']:,.0f}", "without compilation"))
    if "steps" in run:
        found.append(("waste", f"{run['steps']['waste']:.2f}", "lane-steps run for one needed"))
    if "peak_memory_bytes" in run:
        found.append(("peak memory", f"{run['peak_memory_bytes'] / 1e9:.2f} GB", ""))
    if run.get("devices"):
        found.append(("devices", _devices(run["devices"]), f"{run['cores']} cores" if "cores" in run else ""))
    commit = run.get("commit")
    found.append(("commit", _commit(commit, 10).split(",")[0], "with changes" * bool(commit and commit["dirty"])))
    return found


def duration(value: float) -> str:
    """Returns a time in a unit that suits it."""
    if value < 100:
        return f"{value:.1f} s" if value >= 1 else f"{value:.2f} s"
    return f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


def _commit(commit: Facts | None, digits: int) -> str:
    return "none" if commit is None else commit["hash"][:digits] + ", with changes" * commit["dirty"]


def _devices(devices: list[str]) -> str:
    """Returns the devices, alike ones together; a CPU's kind says no more than its platform."""
    names = [platform if platform == kind else kind for platform, _, kind in (name.partition(": ") for name in devices)]
    return ", ".join(f"{count} × {name}" for name, count in collections.Counter(names).items())


def _flat(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for inner, part in value.items():
            yield from _flat(f"{name}: {inner}", part)
    else:
        yield name.replace("_", " "), value


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.6g}"
    return (
        "–"
        if value is None or value == ""
        else f"{value:,}"
        if isinstance(value, int) and value >= 10_000
        else str(value)
    )
