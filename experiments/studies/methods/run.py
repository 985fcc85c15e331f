"""Trains the missing runs of the comparison and writes its record."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pandas as pd
from rich.console import Console

from ...cli.interrupts import mendable
from ...cli.runner import Report, check_axes, conduct
from ...records.environment import Clock, keep_memory
from ...records.folder import BadInput, Facts, require_one_of, write_whole
from ...reports.document import fill, to_markdown
from ...training.study import KEPT
from .config import METHODS, MOMENTS, NETWORKS, OPTIMIZERS, PUBLISHED, MethodsConfig, Setting, settings


def run(config: MethodsConfig, console: Console, clock: Clock) -> Path:
    """Runs the study and returns the record's folder.

    Raises:
      BadInput: an invalid flag, or no finished run.
    """
    _check(config)
    keep_memory()

    def work(folder: Path) -> tuple[Facts, Report]:
        from . import report

        with clock.phase("run"):
            outcomes = finish(config, console)
        with clock.phase("report"):
            table = pd.DataFrame([outcome["settings"] | _numbers(outcome) for outcome in outcomes])
            table.to_csv(folder / "runs.csv", index=False)
            sections = report.sections(table)
            if config.docs:
                fill(Path(config.docs), "methods", to_markdown("", sections))
        return {"runs": len(table)}, sections

    return conduct("methods", "Methods compared", config, console, clock, work)


def finish(config: MethodsConfig, console: Console) -> list[Facts]:
    """Trains the missing runs until the time limit and returns all that are finished.

    Raises:
      BadInput: no run is finished, a run diverged, or images are missing.
    """
    folder = config.runs or KEPT / "methods"
    end = None if config.minutes is None else time.monotonic() + 60 * config.minutes
    outcomes: list[Facts] = []
    for setting in settings(config):
        path = folder / f"{setting.name()}.json"
        trains = not config.finished and (end is None or time.monotonic() < end)
        if not path.exists() and trains and not _is_rejected(setting, outcomes):
            _train(setting, config, path, console)
        if path.exists():
            outcomes.append(json.loads(path.read_text(encoding="utf-8")))
    if not outcomes:
        raise BadInput(f"finished or minutes must leave at least one run, got none in {folder}")
    return outcomes


def _is_rejected(setting: Setting, outcomes: list[Facts]) -> bool:
    """Returns whether another number of the method is the best of the seeds before, in which all were trained."""
    from .report import CELL, CHOSEN, chosen

    number = None if setting.method == "magnitude" else CHOSEN.get(setting.method)
    cell = {"method": setting.method, **{name: getattr(setting, name) for name in CELL}}
    own = [x for x in outcomes if cell.items() <= x["settings"].items()]
    before = [{"validation_loss": float("nan")} | x["settings"] | _numbers(x) for x in own]
    if not number or not before or setting.seed == before[0]["seed"]:
        return False
    return getattr(setting, number) not in set(chosen(pd.DataFrame(before))[number])


def _train(setting: Setting, config: MethodsConfig, path: Path, console: Console) -> None:
    from .train import train

    outcome = train(setting, config.data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(outcome) + "\n")
    shown = "diverged"
    if "diverged" not in outcome:
        shown = f"validation loss {outcome['validation_loss']:.4f}, accuracy {outcome['validation_accuracy']:.2%}"
    console.print(f"{setting.name()}: {shown}", highlight=False, soft_wrap=True)


def _numbers(outcome: Facts) -> Facts:
    return {name: x for name, x in outcome.items() if isinstance(x, int | float)}


def _check(config: MethodsConfig) -> None:
    from rvsmjax import _checks

    check_axes(config, "network", "method", "optimizer", "sparsity", "ramp", "beta")
    for name, known in (("network", NETWORKS), ("method", METHODS), ("optimizer", OPTIMIZERS)):
        for value in getattr(config, name):
            require_one_of(name, value, known)
    for method in MOMENTS:
        if method in config.method and "adamw" not in config.optimizer:
            raise BadInput(f"optimizer must include adamw for {method}, got {' '.join(config.optimizer)}")
    for method, network in PUBLISHED.items():
        if method in config.method and network not in config.network:
            raise BadInput(f"network must include {network} for {method}, got {' '.join(config.network)}")
        if network in config.network and method not in config.method:
            raise BadInput(f"method must include {method} for {network}, got {' '.join(config.method)}")
    with mendable():
        _checks.integer("seeds", config.seeds, at_least=1)
        _checks.integer("steps", config.steps, at_least=0)
        for value in config.sparsity:
            _checks.fraction("sparsity", value)
        for name in ("ramp", "beta"):
            for value in getattr(config, name):
                _checks.positive(name, value)
    if max(config.ramp) > 1:
        raise BadInput(f"ramp must be at most 1, got {max(config.ramp):g}")
    if config.docs and not Path(config.docs).is_file():
        raise BadInput(f"docs must be an existing file, got {config.docs}")
