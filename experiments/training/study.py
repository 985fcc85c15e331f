"""What the studies that train share: their flags, and training a list of runs under the eyes of the user."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import arg

from ..cli.flags import DataFolder, Minutes, RunsFolder, WholeNumber
from ..cli.runner import Report, conduct
from ..records.environment import Clock
from ..records.folder import BadInput, Facts, require_one_of
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
"""Finished runs: those that come with a checkout; of an installed package, those of the folder it is started in."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The flags of every study that trains."""

    epochs: WholeNumber | None
    """Epochs of a run."""
    batch: WholeNumber = 64
    """Images in a step."""
    seeds: WholeNumber = 3
    """Runs of each kind, with seeds from 0."""
    data: str
    """Images: those of the study, or enlarged digits, which need no file."""
    data_dir: DataFolder = None
    """Folder of the files of the images."""
    runs: RunsFolder = None
    """Where finished runs are kept and others go on. Start the command twice, and two processes share the work."""
    minutes: Minutes = None
    """Time after which no epoch is begun; the same command goes on from there."""
    finished: bool = False
    """Train nothing: report the runs that are finished."""
    docs: Annotated[str, arg(metavar="FILE")] = ""
    """Also put the report's tables into this page, between its markers."""

    def check_training(self, *sources: str) -> None:
        """Raises ``BadInput`` for anything the user can mend; ``sources`` are the images that will do."""
        for name in ("epochs", "batch", "seeds"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be a whole number >= 1, got {getattr(self, name)}")
        require_one_of("data", self.data, sources)
        if self.docs and not Path(self.docs).is_file():
            raise BadInput(f"docs must be a page that exists, got {self.docs}")
        if self.minutes is not None and not self.minutes > 0:
            raise BadInput(f"minutes must be > 0, got {self.minutes:g}")


class StudyReport(Protocol):
    """A module that reports what the runs of a study say."""

    def figures(self, outcomes: Outcomes, config: Any) -> dict[str, Figure]:
        """Returns the figures, by name."""

    def sections(self, study: Study, outcomes: Outcomes, config: Any) -> list[Section]:
        """Returns the report; its last section is not for pages."""


def conduct_study(
    marker: str, title: str, study: Study, config: Any, report: StudyReport, console: Console, clock: Clock
) -> Path:
    """Trains what is not there yet and returns the folder of the record.

    Args:
      marker: command line, which also marks the tables in a page of documentation.
      title: heading of the report.
      study: the runs.
      config: the command's config.
      report: the module of the study's report.
      console: where progress and report are shown.
      clock: the times of the phases so far.

    Raises:
      BadInput: anything that the user can mend.
    """

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
    """Returns the runs of the study that are finished when it stops: all of them, unless the time was too short.

    Raises:
      BadInput: the images are missing, a run diverged, or no run is finished.
    """
    from ..data.images import load
    from .loop import OutOfTime
    from .run_store import InHand, Runs, read

    recipes = [recipe for group in study.values() for recipe in group]
    done: dict[Recipe, Facts] = {}
    with _progress(console) as progress:
        bar = progress.add_task("", total=sum(recipe.epochs for recipe in recipes), shown="")

        def watch(recipe: Recipe, row: Row) -> None:
            own = f"loss {row['loss']:.4f}  u {row['accuracy_u']:.2%}  zeros {row['zeros']:.2%}"
            progress.update(bar, description=recipe.name(), shown=f"epoch {row['epoch']}/{recipe.epochs}  {own}")
            progress.advance(bar)

        seconds = None if config.minutes is None else 60 * config.minutes
        runs = Runs(config.runs or KEPT, lambda: load(config.data, config.data_dir), watch, seconds)
        for recipe in recipes:
            if config.finished:
                if (found := read(runs.path(recipe))) is not None:
                    done[recipe] = found
                continue
            try:
                done[recipe] = runs.result(recipe)
            except InHand:
                continue
            except OutOfTime:
                break
            except KeyboardInterrupt:
                raise KeyboardInterrupt("what was trained is kept, the same command goes on from there") from None
            progress.update(bar, completed=sum(own.epochs for own in done))
    if not done and config.finished:
        raise BadInput(f"finished needs a finished run, got none in {config.runs or KEPT}")
    if not done:
        raise BadInput("minutes must leave time for one run at least; what was trained is kept, and goes on next time")
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
