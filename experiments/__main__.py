"""Entry point of ``python -m experiments``."""

import os
import signal
import sys

from .cli.main import INTERRUPTED, main
from .records.program import PROGRAM


def start(program: str = PROGRAM) -> None:
    """Runs the command line and exits."""
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


if __name__ == "__main__":
    start()
