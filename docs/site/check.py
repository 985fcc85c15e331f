"""Fails the build if a page loads an external resource or has a broken internal link."""

from pathlib import Path
from typing import Any

from pages import problems
from sphinx.application import Sphinx
from sphinx.errors import SphinxError


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the check with Sphinx."""
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def check(app: Sphinx, error: Exception | None) -> None:
    """Raises an error that lists the problems of the site, if there are any."""
    wrong = problems(Path(app.outdir)) if error is None and app.builder.format == "html" else []
    if wrong:
        raise SphinxError("the site must have no broken links or external resources, got\n" + "\n".join(wrong))
