"""Wrappers of a long call: prompt Ctrl-C, one-line errors for bad input, a progress bar."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..records.folder import BadInput

Result = TypeVar("Result")


def in_thread(work: Callable[[], Result]) -> Result:
    """Returns ``work()``, run in another thread: compiled code in this one would block Ctrl-C."""
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if failure:
        raise failure[0]
    return outcome[0]


@contextlib.contextmanager
def mendable() -> Iterator[None]:
    """Converts argument errors of the library and out-of-memory errors of the device to ``BadInput``."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise BadInput(str(error)) from error
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise BadInput(f"grid must fit in memory: {error}") from error


@contextlib.contextmanager
def shown_progress(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yields the callback of a progress bar, or None if stderr is not a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Compiling", total=None)
        yield lambda done, total: bar.update(task, description="Lanes", completed=done, total=total)
