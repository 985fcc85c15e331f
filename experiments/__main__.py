"""``python -m experiments``."""

import os
import signal
import sys

from .cli.main import INTERRUPTED, main
from .records.program import PROGRAM


def start(program: str = PROGRAM) -> None:
    """Runs the command line and ends the process."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as Ctrl-C does
    try:
        code = main(program=program)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    if code == INTERRUPTED:
        # The compiled call goes on in its thread; a normal exit would wait for it.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    start()
