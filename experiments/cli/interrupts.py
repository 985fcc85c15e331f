"""Around a long call: Ctrl-C is heard, what the user can mend is one line, progress is seen."""

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
    """Returns ``work()``, run in another thread: this one stays free for Ctrl-C, which compiled code would hold up."""
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
    """Turns the library's complaints about arguments, and a device's about its memory, into ``BadInput``."""
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
    """Yields what shows progress on a terminal; None elsewhere."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Compiling", total=None)
        yield lambda done, total: bar.update(task, description="Lanes", completed=done, total=total)
