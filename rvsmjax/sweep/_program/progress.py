"""The progress of a running sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

Progress = Callable[[int, int], None]


class reporting:
    """Sends the progress of the running program to ``progress`` while the block runs."""

    current: reporting | None = None

    def __init__(self, progress: Progress | None, lanes: int) -> None:
        self.progress, self.lanes, self.done = progress, lanes, 0

    def __enter__(self) -> None:
        reporting.current = self

    def __exit__(self, *exception: Any) -> None:
        jax.effects_barrier()
        reporting.current = None


def report(ended: Any) -> None:
    """Takes from the program the number of lanes that have just ended."""
    now = reporting.current
    if now is not None and now.progress is not None:
        now.done += int(ended)
        now.progress(now.done, now.lanes)
