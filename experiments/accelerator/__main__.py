"""Entry point of ``python3 -m experiments.accelerator``."""

import os
import sys

from .cli import main

if __name__ == "__main__":
    environment = dict(os.environ)
    if "job" not in sys.argv:
        os.environ["JAX_PLATFORMS"] = "cpu"  # only the processes of the jobs use the device
    sys.exit(main(environment=environment))
