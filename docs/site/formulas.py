"""Converts formulas to MathML at build time, so pages need neither scripts nor the network."""

import re
from typing import Any, NoReturn

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the renderer with Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(writer: Any, node: nodes.math) -> NoReturn:
    """Writes an inline formula."""
    writer.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def block(writer: Any, node: nodes.math_block) -> NoReturn:
    """Writes a displayed formula."""
    writer.body.append(f'<div class="math">{mathml(node, "block")}</div>')
    raise nodes.SkipNode


def mathml(node: nodes.Element, display: str) -> str:
    """Returns a formula as MathML; warns about unknown commands."""
    markup = convert(node.astext(), display=display)
    if "\\" in markup or "<mi>&</mi>" in markup:
        logger.warning("a formula must use only known commands, got %r", node.astext(), location=node)
    return re.sub(r"<mi>(sin|cos)</mi>", r'\g<0><mspace width="0.167em" />', markup)
