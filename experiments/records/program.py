"""Name of the program in records and messages."""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAMS = ("python -m experiments", "rvsmjax")
PROGRAM = PROGRAMS[not __name__.startswith("experiments.") or Path(sys.argv[0]).stem == "rvsmjax"]
"""Name under which this process was started: in a checkout, or as the installed command."""
