"""A built site loads nothing from elsewhere, and every link within it leads somewhere; else it is not built."""

from pathlib import Path
from typing import Any

from pages import problems
from sphinx.application import Sphinx
from sphinx.errors import SphinxError


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the check."""
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def check(app: Sphinx, error: Exception | None) -> None:
    """Raises an error that names what is wrong with the site, if anything."""
    wrong = problems(Path(app.outdir)) if error is None and app.builder.format == "html" else []
    if wrong:
        raise SphinxError("the site must be whole, but\n" + "\n".join(wrong))
