"""TensorBoard logs of runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from .folder import BadInput

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

PACKAGE = "tensorboardX"


def check_installed() -> None:
    """Raises ``BadInput`` if the package that writes the logs is missing."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise BadInput(f"tensorboard needs {PACKAGE}, which comes with: pip install 'rvsmjax[experiments]'")


class Logs:
    """Writes a log for each run, in a folder with its name; closes the files at the end of its context."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, SummaryWriter] = {}

    def __enter__(self) -> Logs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.close()

    def write(self, run: str, epoch: int, numbers: Mapping[str, float]) -> None:
        """Writes the numbers of an epoch."""
        if run not in self._writers:
            from tensorboardX import SummaryWriter

            self._writers[run] = SummaryWriter(str(self.folder / run))
        for name, number in numbers.items():
            self._writers[run].add_scalar(name, number, epoch)
