"""Progress reports of a running sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

Progress = Callable[[int, int], None]


class reporting:
    """Context manager that forwards the running program's progress to ``progress``."""

    current: reporting | None = None

    def __init__(self, progress: Progress | None, lanes: int) -> None:
        self.progress, self.lanes, self.done = progress, lanes, 0

    def __enter__(self) -> None:
        reporting.current = self

    def __exit__(self, *exception: Any) -> None:
        jax.effects_barrier()
        reporting.current = None


def report(finished: Any) -> None:
    """Adds newly finished lanes; the program's callback."""
    current = reporting.current
    if current is not None and current.progress is not None:
        current.done += int(finished)
        current.progress(current.done, current.lanes)
