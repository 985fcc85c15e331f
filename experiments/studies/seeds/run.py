"""Runs the seed study and writes its record."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ...cli.interrupts import in_thread, mendable
from ...cli.runner import Report, check_axes, conduct
from ...records.environment import Clock
from ...records.folder import BadInput, Facts
from .config import AXES, SeedsConfig


def run(config: SeedsConfig, console: Console, clock: Clock) -> Path:
    """Runs the study and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """
    _check(config)

    def work(folder: Path) -> tuple[Facts, Report]:
        from ...reports import vega
        from . import figures as seeds_plots
        from . import report as seeds_report
        from . import study as seeds_study
        from . import summary as seeds_summary

        with clock.phase("run"):
            study = in_thread(lambda: seeds_study.conduct_study(config))
        with clock.phase("report"):
            summary = seeds_summary.summarize(study.lanes)
            study.lanes.to_csv(folder / "lanes.csv", index=False)
            study.curves.to_csv(folder / "curves.csv.gz", index=False)
            summary.to_csv(folder / "summary.csv", index=False)
            vega.save(seeds_plots.figures(summary, study), folder)
        timings = {name: timing._asdict() for name, timing in study.timings.items()}
        differences = {penalty: difference._asdict() for penalty, difference in study.differences.items()}
        facts = {"lanes": len(study.lanes), "timings": timings, "differences": differences}
        return facts, seeds_report.sections(summary, study, config)

    return conduct("seeds", "A seed study on the digits", config, console, clock, work)


def _check(config: SeedsConfig) -> None:
    from rvsmjax import _checks

    from ...data.digits import LEARNT
    from ...penalties.registry import find

    check_axes(config, "penalty", "lam", "beta", "sparsity", "learning_rate")
    with mendable():
        for name in config.penalty:
            if name not in AXES:
                find(name, *AXES)
        for name, least in (("seeds", 2), ("epochs", 1), ("batch", 1), ("compared", 1), ("rounds", 1)):
            _checks.integer(name, getattr(config, name), at_least=least)
        for value in config.lam:
            _checks.nonnegative("lam", value)
        for name in ("beta", "learning_rate"):
            for value in getattr(config, name):
                _checks.positive(name, value)
        _checks.positive("a", config.a)
        for value in config.sparsity:
            _checks.fraction("sparsity", value)
        _checks.fraction("min_sparsity", config.min_sparsity)
    if config.batch > LEARNT:
        raise BadInput(f"batch must be at most {LEARNT:,}, the training images, got {config.batch}")
    if config.seeds > 2**32:
        raise BadInput(f"seeds must be at most 2**32, got {config.seeds}")
