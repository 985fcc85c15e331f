"""Common parts of the training studies: flags, training of all runs with a progress bar, record."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import arg

from ..cli.flags import DataFolder, LogFolder, Minutes, RunsFolder, WholeNumber
from ..cli.runner import Report, conduct
from ..records.environment import Clock, keep_memory
from ..records.folder import BadInput, Facts, require_one_of
from ..records.tensorboard import Logs, check_installed
from ..reports.document import Section, fill, to_markdown
from ..reports.figures import Figure

if TYPE_CHECKING:
    from .loop import Row
    from .recipes import Recipe
    from .run_store import Outcomes, Study

KEPT = (
    Path(__file__).parents[1] / "published_runs"
    if Path(__file__).parents[2].joinpath("pyproject.toml").exists()
    else Path("results/runs")
)
"""Default folder of finished runs: the published ones of a checkout, else a folder in the working directory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Flags of every training study."""

    epochs: WholeNumber | None
    """Epochs per run."""
    batch: WholeNumber = 64
    """Images per step."""
    seeds: WholeNumber = 3
    """Runs of each configuration, with seeds from 0."""
    data: str
    """Images: those of the study, or enlarged digits, which need no files."""
    data_dir: DataFolder = None
    """Folder of the image files."""
    runs: RunsFolder = None
    """Folder of finished runs and checkpoints. Commands that run at the same time share the work."""
    tensorboard: LogFolder = None
    """Folder of TensorBoard logs, one for each run that is trained; needs tensorboardX."""
    minutes: Minutes = None
    """Time limit after which no epoch starts; run the same command to resume."""
    finished: bool = False
    """Report the finished runs without training."""
    docs: Annotated[str, arg(metavar="FILE")] = ""
    """Also write the report's tables into this page, between its markers."""

    def check_training(self, *sources: str) -> None:
        """Raises ``BadInput`` for invalid flags; ``sources`` are the valid values of ``data``."""
        for name in ("epochs", "batch", "seeds"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be a whole number >= 1, got {getattr(self, name)}")
        require_one_of("data", self.data, sources)
        if self.docs and not Path(self.docs).is_file():
            raise BadInput(f"docs must be an existing file, got {self.docs}")
        if self.tensorboard:
            check_installed()
        if self.minutes is not None and not self.minutes > 0:
            raise BadInput(f"minutes must be > 0, got {self.minutes:g}")


class StudyReport(Protocol):
    """Interface of a study's report module."""

    def figures(self, outcomes: Outcomes, config: Any) -> dict[str, Figure]:
        """Returns the figures by name."""

    def sections(self, study: Study, outcomes: Outcomes, config: Any) -> list[Section]:
        """Returns the sections of the report; the last one is left out of documentation pages."""


def conduct_study(
    marker: str, title: str, study: Study, config: Any, report: StudyReport, console: Console, clock: Clock
) -> Path:
    """Trains the missing runs of a study and returns the folder of the record.

    Args:
      marker: command line, also the marker of the tables in a documentation page.
      title: heading of the report.
      study: the runs.
      config: config of the command.
      report: report module of the study.
      console: console for progress and report.
      clock: times of the phases so far.

    Raises:
      BadInput: invalid input, see ``train_all``.
    """
    keep_memory()

    def work(folder: Path) -> tuple[Facts, Report]:
        from ..reports import vega
        from . import report as training_report

        with clock.phase("run"):
            outcomes = train_all(study, config, console)
        with clock.phase("report"):
            training_report.frame(outcomes).to_csv(folder / "runs.csv", index=False)
            vega.save(report.figures(outcomes, config), folder)
            sections = report.sections(study, outcomes, config)
            if config.docs:
                fill(Path(config.docs), marker, to_markdown("", sections[:-1]))
        return {"runs": sum(map(len, outcomes.values()))}, sections

    return conduct(marker.split()[0], title, config, console, clock, work)


def train_all(study: Study, config: TrainingConfig, console: Console) -> Outcomes:
    """Trains the missing runs of a study until the time limit and returns all finished runs.

    Raises:
      BadInput: images are missing, a run diverged, or no run is finished.
    """
    from ..data.images import load
    from .loop import OutOfTime
    from .run_store import Locked, Runs, read

    recipes = [recipe for group in study.values() for recipe in group]
    done: dict[Recipe, Facts] = {}
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(_progress(console))
        logs = stack.enter_context(Logs(config.tensorboard)) if config.tensorboard else None
        bar = progress.add_task("", total=sum(recipe.epochs for recipe in recipes), shown="")

        def watch(recipe: Recipe, row: Row) -> None:
            metrics = f"loss {row['loss']:.4f}"
            if row["accuracy_u"] is not None:
                metrics += f"  u {row['accuracy_u']:.2%}  zeros {row['zeros']:.2%}"
            progress.update(bar, description=recipe.name(), shown=f"epoch {row['epoch']}/{recipe.epochs}  {metrics}")
            progress.advance(bar)

        seconds = None if config.minutes is None else 60 * config.minutes
        runs = Runs(config.runs or KEPT, lambda: load(config.data, config.data_dir), watch, seconds, logs)
        for recipe in recipes:
            if config.finished:
                if (run := read(runs.path(recipe))) is not None:
                    done[recipe] = run
                continue
            try:
                done[recipe] = runs.result(recipe)
            except Locked:
                continue
            except OutOfTime:
                break
            except KeyboardInterrupt:
                raise KeyboardInterrupt("checkpoints are saved; run the same command to resume") from None
            progress.update(bar, completed=sum(finished.epochs for finished in done))
    if not done and config.finished:
        raise BadInput(f"finished needs a finished run, got none in {config.runs or KEPT}")
    if not done:
        raise BadInput("minutes must leave time for a run; checkpoints are saved; run the same command to resume")
    return {label: [done[recipe] for recipe in group if recipe in done] for label, group in study.items()}


def _progress(console: Console) -> Progress:
    columns = [
        TextColumn("{task.description}"),
        TextColumn("{task.fields[shown]}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    ]
    hidden = console.quiet or not console.is_terminal
    return Progress(*columns, console=console, disable=hidden, transient=True)
