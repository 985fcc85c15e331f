"""Formulas as MathML, made when the site is built: browsers draw it by themselves, without a script or the network."""

import re
from typing import Any, NoReturn

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the renderer."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(writer: Any, node: nodes.math) -> NoReturn:
    """Writes a formula within a line."""
    writer.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def block(writer: Any, node: nodes.math_block) -> NoReturn:
    """Writes a formula on lines of its own."""
    writer.body.append(f'<div class="math">{mathml(node, "block")}</div>')
    raise nodes.SkipNode


def mathml(node: nodes.Element, display: str) -> str:
    """Returns a formula as MathML; what the converter does not know is a warning."""
    found = convert(node.astext(), display=display)
    if "\\" in found or "<mi>&</mi>" in found:
        logger.warning("a formula must be of commands that are known, got %r", node.astext(), location=node)
    return re.sub(r"<mi>(sin|cos)</mi>", r'\g<0><mspace width="0.167em" />', found)
