"""What the studies of LeNet share: their flags, and training a list of runs under the eyes of the user."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.flags import DataFolder, Minutes, RunsFolder, WholeNumber
from experiments.record import BadInput

if TYPE_CHECKING:
    from experiments.recipes import Recipe

Study = dict[str, "list[Recipe]"]
"""Runs by what they show; those of one entry differ in the seed alone."""
Outcomes = dict[str, list[dict[str, Any]]]
"""The finished runs of a study, see ``Runs.result``."""
IMAGES = ("mnist", "digits")
KEPT = Path(__file__).parent / "runs"
"""The finished runs that come with the code."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The flags of every study that trains."""

    epochs: WholeNumber
    """Epochs of a run."""
    batch: WholeNumber = 64
    """Images in a step."""
    seeds: WholeNumber = 3
    """Runs of each kind, with seeds from 0."""
    data: str = "mnist"
    """Images: mnist, or digits (scikit-learn's, enlarged; nothing to download)."""
    data_dir: DataFolder = None
    """Folder of MNIST's four files."""
    runs: RunsFolder = None
    """Where finished runs are kept and others go on. Start the command twice, and two processes share the work."""
    minutes: Minutes = None
    """Time after which no epoch is begun; the same command goes on from there."""
    finished: bool = False
    """Train nothing: report the runs that are finished."""

    def check_training(self) -> None:
        """Raises ``BadInput`` for anything the user can mend."""
        for name in ("epochs", "batch", "seeds"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be a whole number >= 1, got {getattr(self, name)}")
        if self.data not in IMAGES:
            raise BadInput(f"data must be one of {', '.join(IMAGES)}, got {self.data!r}")
        if self.minutes is not None and not self.minutes > 0:
            raise BadInput(f"minutes must be > 0, got {self.minutes:g}")


def train_all(study: Study, config: TrainingConfig, console: Console) -> Outcomes:
    """Returns the runs of the study that are finished when it stops: all of them, unless the time was too short.

    Raises:
      BadInput: the images are missing, a run diverged, or no run is finished.
    """
    from experiments.images import load
    from experiments.runs import InHand, OutOfTime, Runs, read

    recipes = [recipe for group in study.values() for recipe in group]
    done: dict[Recipe, dict[str, Any]] = {}
    with _progress(console) as progress:
        bar = progress.add_task("", total=sum(recipe.epochs for recipe in recipes), shown="")

        def watch(recipe: Recipe, row: dict[str, Any]) -> None:
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
