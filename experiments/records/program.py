"""What the program is called, as records and messages name it."""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAMS = ("python -m experiments", "rvsmjax")
PROGRAM = PROGRAMS[not __name__.startswith("experiments.") or Path(sys.argv[0]).stem == "rvsmjax"]
"""The name by which this process was started: from a checkout, or by the installed command."""
