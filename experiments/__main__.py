"""``python -m experiments``."""

import os
import signal
import sys

from experiments.cli import INTERRUPTED, main

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as Ctrl-C does
    code = main()
    if code == INTERRUPTED:
        # The compiled call goes on in its thread; a normal exit would wait for it.
        os._exit(code)
    sys.exit(code)
