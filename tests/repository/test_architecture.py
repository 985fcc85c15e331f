"""The library stays light, no folder is a heap. The layers of imports are contracts in pyproject (``make check``)."""

import ast
import collections
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {"rvsmjax", "jax", "jaxlib", "optax", "flax", "numpy"} | sys.stdlib_module_names
LAZY = {
    ("rvsmjax.sweep.result", "pandas"),
    ("rvsmjax.sweep.result", "xarray"),
    ("rvsmjax.storage", "safetensors"),
}  # not when the module is imported, only when it is used
MOST_FILES = 15
"""Python files of a folder."""


def is_lazy(node: ast.AST) -> bool:
    """Whether the imports inside do not run when the module is imported."""
    types_alone = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return types_alone or isinstance(node, ast.FunctionDef)


def imports(source: str) -> Iterator[tuple[str, bool]]:
    """The packages that a module imports, and whether lazily."""
    tree = ast.parse(source)
    lazy = {inner for node in ast.walk(tree) if is_lazy(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0], node in lazy


def heavy(module: str, source: str) -> list[str]:
    """The packages that a module of the library must not import, a line each."""
    found = imports(source)
    return [
        f"{module} imports {root}"
        for root, lazy in found
        if root not in ALLOWED and not (lazy and (module, root) in LAZY)
    ]


def test_the_library_is_light():
    paths = sorted((ROOT / "rvsmjax").rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    assert {"rvsmjax", "rvsmjax.geometry", "rvsmjax.sweep.result"} <= set(names)
    sources = zip(names, (path.read_text(encoding="utf-8") for path in paths), strict=True)
    assert [line for name, source in sources for line in heavy(name, source)] == []


@pytest.mark.parametrize(
    ("module", "source", "complaints"),
    [
        ("rvsmjax.geometry", "import math\nimport jax.numpy as jnp\nfrom . import _checks", []),
        ("rvsmjax.sweep.result", "def to_xarray():\n    import xarray", []),
        ("rvsmjax.sweep.result", "import xarray", ["rvsmjax.sweep.result imports xarray"]),
        ("rvsmjax.problems", "def f():\n    import xarray", ["rvsmjax.problems imports xarray"]),
        ("rvsmjax", "def f():\n    from experiments.cli import main", ["rvsmjax imports experiments"]),
    ],
)
def test_the_check_sees(module, source, complaints):
    assert heavy(module, source) == complaints


def test_no_contract_has_an_exception():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    assert {contract["type"] for contract in contracts} == {"layers", "independence", "acyclic_siblings"}
    assert not any("ignore" in key or "skip" in key for contract in contracts for key in contract)


def test_no_folder_is_a_heap():
    places = ("rvsmjax", "experiments", "benchmarks", "tools", "examples", "docs", "tests")
    paths = [path for place in places for path in (ROOT / place).rglob("*.py")]
    counts = collections.Counter(path.parent.relative_to(ROOT) for path in paths)
    assert {str(folder): count for folder, count in counts.items() if count > MOST_FILES} == {}
    assert sum(counts.values()) > 150
