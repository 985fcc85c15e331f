"""What the program is called, as records name it."""

from __future__ import annotations

import sys

PROGRAMS = ("python -m experiments", "rvsmjax")
PROGRAM = PROGRAMS["rvsmjax_experiments" in sys.modules]
"""The program's name as this process was started: from a checkout, or installed."""
