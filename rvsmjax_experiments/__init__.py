"""The command ``rvsmjax``: starts the studies, the package ``experiments``.

The wheel has that package in this folder: installed packages must not be called ``experiments`` for all, as their users
have their own. In a checkout it lies beside this folder. Its modules import each other relatively, so it does not
matter which.
"""

from __future__ import annotations

import importlib.util
import sys

PROGRAM = "rvsmjax"


def main() -> None:
    """Runs the command line and ends the process; says in a line which extra is missing."""
    if sys.argv[1:] == ["--version"]:
        from rvsmjax import __version__

        print(f"rvsmjax {__version__}")
        return
    try:
        if importlib.util.find_spec(f"{__name__}.experiments"):
            from rvsmjax_experiments.experiments.__main__ import start
        else:
            from experiments.__main__ import start
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "experiments", "rvsmjax", "rvsmjax_experiments"):
            raise
        wanted = f"the studies need {missing}, which comes with: pip install 'rvsmjax[experiments]'"
        print(f"{PROGRAM}: {wanted}", file=sys.stderr)
        sys.exit(2)
    start(PROGRAM)
