"""Entry point of ``python -m experiments``."""

import contextlib
import ctypes
import os
import signal
import sys

from .cli.main import INTERRUPTED, main
from .records.program import PROGRAM

ONE_HEAP, NO_MAPPINGS, KEPT, AHEAD = (-8, 1), (-4, 0), (-1, 2**31 - 1), (-2, 2**26)
"""Arguments of glibc's ``mallopt``: M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD."""


def start(program: str = PROGRAM) -> None:
    """Runs the command line and exits."""
    keep_memory()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as Ctrl-C does
    try:
        code = main(program=program)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader closed the pipe, as ``head`` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    if code == INTERRUPTED:
        # A normal exit would wait for the compiled call, which still runs in its thread.
        os._exit(code)
    sys.exit(code)


def keep_memory() -> None:
    """Has glibc keep the memory of a training step for the next one.

    By default it returns large blocks to the system and gets them again in every step, page by page, which takes a
    third of the time of a convolutional network on a CPU. Other C libraries are left as they are.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for option in (ONE_HEAP, NO_MAPPINGS, KEPT, AHEAD):
            mallopt(*option)


if __name__ == "__main__":
    start()
