"""The site: Sphinx reads the repository's own Markdown where it lies, so that links hold there and here."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / "site")]

import rvsmjax  # noqa: E402

project = "rvsmjax"
copyright = author = "rvsmjax developers"
release = version = rvsmjax.__version__

root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "*/README.md", "docs/**"]
exclude_patterns = [".*", "build", "dist", "results", "docs/site"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "check",
    "docstrings",
    "formulas",
    "names",
    "sources",
]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
smartquotes_action = "D"  # dashes alone

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
add_module_names = False

html_theme = "furo"
html_title = f"rvsmjax {release}"
html_static_path = ["site/static"]
html_css_files = ["style.css"]
html_extra_path = ["site/index.html"]
pygments_dark_style = "github-dark"
html_math_renderer = "mathml"
html_copy_source = html_show_sourcelink = False
copybutton_exclude = ".linenos, .gp, .go"
