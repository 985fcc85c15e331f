"""The command ``rvsmjax``: starts the studies, whose package ``experiments`` the wheel has in this folder.

An installed package must not be called ``experiments`` for all: its users have their own. It is found under that name
in the command's process alone; in a checkout it lies beside this folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAM = "rvsmjax"


def main() -> None:
    """Runs the command line and ends the process; says in a line which extra is missing."""
    if sys.argv[1:] == ["--version"]:
        from rvsmjax import __version__

        print(f"rvsmjax {__version__}")
        return
    here = Path(__file__).resolve().parent
    sys.path.insert(0, str(here if (here / "experiments").is_dir() else here.parent))
    try:
        from experiments.__main__ import start
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "experiments", "rvsmjax"):
            raise
        wanted = f"the studies need {missing}, which comes with: pip install 'rvsmjax[experiments]'"
        print(f"{PROGRAM}: {wanted}", file=sys.stderr)
        sys.exit(2)
    start(PROGRAM)
