"""Facts of a run as text: configuration, versions, commit, devices, times, waste."""

from __future__ import annotations

import collections
from collections.abc import Iterator

from .folder import Facts

HIDDEN = {"out", "overwrite", "quiet"}
"""Flags left out of the configuration: they do not affect results."""


def groups(run: Facts) -> dict[str, dict[str, str]]:
    """Returns the content of ``config.json`` as texts by group and name."""
    seconds = {name: duration(value) for name, value in run.get("seconds", {}).items()}
    rest = {name: value for name, value in run.items() if name not in ("config", "versions", "seconds", "command")}
    commit, devices = rest.pop("commit", None), rest.pop("devices", [])
    memory = rest.pop("peak_memory_bytes", None)
    facts = {"commit": _commit(commit, 40), "devices": _devices(devices)}
    facts |= {name: _text(value) for outer, item in rest.items() for name, value in _flat(outer, item)}
    if memory is not None:
        facts["peak memory"] = f"{memory / 1e9:.2f} GB"
    config = {name: value for name, value in run["config"].items() if name not in HIDDEN}
    return {
        "Configuration": {name.replace("_", " "): _text(value) for name, value in config.items()},
        "Run": facts,
        "Time": seconds | ({"all": duration(sum(run["seconds"].values()))} if seconds else {}),
        "Versions": {name: _text(value) for name, value in run.get("versions", {}).items()},
    }


def tiles(run: Facts) -> list[tuple[str, str, str]]:
    """Returns the headline facts of a run: name, value, remark."""
    facts = []
    if "lanes" in run:
        status = run.get("status", {})
        ended = [f"{count:,} {name}" for name, count in status.items() if count and name != "converged"]
        facts.append(("lanes", f"{run['lanes']:,}", ", ".join(ended) or ("all converged" if status else "")))
    if "runs" in run:
        facts.append(("finished runs", f"{run['runs']:,}", ""))
    if run.get("seconds"):
        phase, longest = max(run["seconds"].items(), key=lambda item: item[1])
        facts.append(("time", duration(sum(run["seconds"].values())), f"{phase} {duration(longest)}"))
    if "lanes_per_second" in run:
        facts.append(("lanes per second", f"{run['lanes_per_second']:,.0f}", "without compilation"))
    if "steps" in run:
        facts.append(("waste", f"{run['steps']['waste']:.2f}", "lane-steps run for one needed"))
    if "peak_memory_bytes" in run:
        facts.append(("peak memory", f"{run['peak_memory_bytes'] / 1e9:.2f} GB", ""))
    if run.get("devices"):
        facts.append(("devices", _devices(run["devices"]), f"{run['cores']} cores" if "cores" in run else ""))
    commit = run.get("commit")
    facts.append(("commit", _commit(commit, 10).split(",")[0], "with changes" * bool(commit and commit["dirty"])))
    return facts


def duration(value: float) -> str:
    """Returns a time in seconds, minutes or hours."""
    if value < 100:
        return f"{value:.1f} s" if value >= 1 else f"{value:.2f} s"
    return f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


def _commit(commit: Facts | None, digits: int) -> str:
    return "none" if commit is None else commit["hash"][:digits] + ", with changes" * commit["dirty"]


def _devices(devices: list[str]) -> str:
    """Returns the devices, counted by kind; for CPUs, whose kind may equal the platform, by platform."""
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
    if isinstance(value, int) and value >= 10_000:
        return f"{value:,}"
    return "–" if value is None or value == "" else str(value)
