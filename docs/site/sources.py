"""Removes viewcode's back links, which assume that all names of a file are documented under the same module."""

import re
from typing import Any

from sphinx.application import Sphinx

BACK = re.compile(r'<a class="viewcode-back".*?</a>', re.S)


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the page hook with Sphinx."""
    app.connect("html-page-context", strip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def strip(app: Sphinx, name: str, template: str, context: dict[str, Any], page: Any) -> None:
    """Removes the back links from a source page."""
    if name.startswith("_modules/"):
        context["body"] = BACK.sub("", context["body"])
