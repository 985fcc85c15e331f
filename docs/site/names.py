"""Links names in the text, such as ``rv.rvsm(…)``, to the API reference."""

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

NAME = re.compile(r"(rv\.)?([A-Za-z_][\w.]*)(\(.*\))?", re.S)
ARGUMENTS = {"sparsity"}
"""Functions whose names docstrings also use for arguments."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the page hook with Sphinx."""
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def link(app: Sphinx, page: nodes.document, docname: str) -> None:
    """Links literals that name a public object: with the prefix ``rv.`` anywhere, without it in docstrings."""
    objects = app.env.domains.python_domain.objects
    short = {name.rpartition(".")[2]: name for name, entry in objects.items() if entry.objtype in ("class", "function")}
    for code in list(page.findall(nodes.literal)):
        match = NAME.fullmatch(code.astext())
        around = list(ancestors(code))
        if match is None or any(isinstance(node, (nodes.title, nodes.reference)) for node in around):
            continue
        prefix, name, _ = match.groups()
        if prefix:
            name = f"rvsmjax.{name}"
        elif any(isinstance(node, addnodes.desc_content) for node in around) and name not in ARGUMENTS:
            name = short.get(name, "")
        entry = objects.get(name)
        if entry is not None:
            code.replace_self(make_refnode(app.builder, docname, entry.docname, entry.node_id, [code.deepcopy()], name))


def ancestors(node: nodes.Node) -> Any:
    """Yields the ancestors of a node, innermost first."""
    while node.parent is not None:
        node = node.parent
        yield node
