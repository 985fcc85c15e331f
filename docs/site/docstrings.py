"""Prepares docstrings for Sphinx: escapes | in magnitudes such as |x|, and sets "Source:" in bold."""

import re
from typing import Any

from sphinx.application import Sphinx

AS_IT_STANDS = re.compile(r"(``.*?``|:math:`.*?`)")
"""Literals and formulas, which are not changed."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the docstring hook with Sphinx."""
    app.connect("autodoc-process-docstring", prepare)
    return {"parallel_read_safe": True}


def prepare(app: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Edits the lines of a docstring in-place."""
    formula = False
    for index, line in enumerate(lines):
        formula = bool(line.strip()) and (formula or ".. math::" in line)
        if not formula and not line.lstrip().startswith((">>>", "...")):
            parts = AS_IT_STANDS.split(line)
            parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
            lines[index] = re.sub(r"^Source:", "**Source:**", "".join(parts))
