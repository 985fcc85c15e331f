"""Trains the unfinished runs and measures the smaller networks."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ....cli.runner import Report, check_axes, conduct
from ....records.environment import Clock
from ....records.folder import BadInput, Facts
from ....reports.document import fill, to_markdown
from ....training.study import train_all
from . import report
from .config import NAME, Lenet5ShrinkConfig, make_study


def run(config: Lenet5ShrinkConfig, console: Console, clock: Clock) -> Path:
    """Trains the unfinished runs and returns the record's folder.

    Raises:
      BadInput: an invalid flag.
    """
    config.check_training("mnist", "digits")
    check_axes(config, "share", "images")
    for value in config.share:
        if not 0 < value < 1:
            raise BadInput(f"share must be in (0, 1), got {value:g}")
    if config.loss < 0:
        raise BadInput(f"loss must be >= 0, got {config.loss:g}")
    for name in ("find_epochs", "tune_epochs", "repeats"):
        if getattr(config, name) < 1:
            raise BadInput(f"{name} must be a whole number >= 1, got {getattr(config, name)}")
    if min(config.images) < 1:
        raise BadInput(f"images must be whole numbers >= 1, got {min(config.images)}")
    study = make_study(config)

    def work(folder: Path) -> tuple[Facts, Report]:
        from ....reports import vega
        from ....training import report as training_report

        with clock.phase("run"):
            outcomes = train_all(study, config, console)
        with clock.phase("measurement"):
            measured = report.measure(study, outcomes, config, folder)
        with clock.phase("report"):
            training_report.frame(outcomes).to_csv(folder / "runs.csv", index=False)
            vega.save({"inference": report.figure(measured)}, folder)
            sections = report.sections(study, outcomes, config, measured)
            if config.docs:
                fill(Path(config.docs), NAME, to_markdown("", sections[:-1]))
        return {"runs": sum(map(len, outcomes.values())), "smaller": measured.facts()}, sections

    return conduct(NAME, "LeNet-5 made smaller", config, console, clock, work)
