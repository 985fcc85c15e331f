"""``python3 -m experiments.accelerator``."""

import os
import sys

from .cli import main

if __name__ == "__main__":
    environment = dict(os.environ)
    if "job" not in sys.argv:
        os.environ["JAX_PLATFORMS"] = "cpu"  # the device is for the processes of the jobs
    sys.exit(main(environment=environment))
