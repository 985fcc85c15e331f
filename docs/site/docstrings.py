"""Docstrings as Sphinx reads them: |x| is a magnitude, not a substitution, and the source stands out."""

import re
from typing import Any

from sphinx.application import Sphinx

AS_IT_STANDS = re.compile(r"(``.*?``|:math:`.*?`)")
"""Literals and formulas."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers what is done to each docstring."""
    app.connect("autodoc-process-docstring", prepare)
    return {"parallel_read_safe": True}


def prepare(app: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Changes the lines of a docstring in place."""
    formula = False
    for place, line in enumerate(lines):
        formula = bool(line.strip()) and (formula or ".. math::" in line)
        if not formula and not line.lstrip().startswith((">>>", "...")):
            parts = AS_IT_STANDS.split(line)
            parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
            lines[place] = re.sub(r"^Source:", "**Source:**", "".join(parts))
