"""``python3 -m experiments.accelerator``."""

import sys

from experiments.accelerator.cli import main

if __name__ == "__main__":
    sys.exit(main())
