"""Imports run downward: no floor uses one above it, nothing runs in a circle, the library stays light."""

import ast
import graphlib
import sys
from collections.abc import Iterator, Mapping
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FLOORS = [  # ground first; names on one floor may use each other, as long as no circle comes of it
    {"rvsmjax._checks", "rvsmjax._exact", "rvsmjax._polynomial", "rvsmjax._pytree"},
    {"rvsmjax.geometry", "rvsmjax.schedules"},
    {"rvsmjax.penalties"},
    {"rvsmjax.problems", "rvsmjax.transforms"},
    {"rvsmjax.adjoint", "rvsmjax.export", "rvsmjax.solve", "rvsmjax.storage", "rvsmjax.certificate"},
    {"rvsmjax.sweep", "rvsmjax.nets"},
    {"rvsmjax"},  # the public names
    {"experiments"},
    {"rvsmjax_experiments"},  # the installed command
]
FLOOR = {unit: number for number, units in enumerate(FLOORS) for unit in units}
ALLOWED = {"jax", "jaxlib", "optax", "flax", "chex", "numpy"} | sys.stdlib_module_names
LAZY = {
    ("rvsmjax.sweep.result", "xarray"),
    ("rvsmjax.storage", "safetensors"),
}  # not when the module is imported, only when it is used


def unit_of(module: str) -> str:
    """The name in FLOORS that a module belongs to: rvsmjax.penalties for rvsmjax.penalties.l1."""
    return ".".join(module.split(".")[: 2 if module.startswith("rvsmjax.") else 1])


def is_lazy(node: ast.AST) -> bool:
    """Whether the imports inside do not run when the module is imported."""
    types_alone = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return types_alone or isinstance(node, ast.FunctionDef)


def imports(module: str, sources: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    """What a module imports, as full names, and whether lazily."""
    tree = ast.parse(sources[module])
    is_package = any(other.startswith(f"{module}.") for other in sources)
    package = module if is_package else module.rpartition(".")[0]
    lazy = {inner for node in ast.walk(tree) if is_lazy(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            names = [f"{base}.{alias.name}" for alias in node.names]
            yield from ((name if name in sources else base, node in lazy) for name in names)


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle of the graph in words, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return ["circle: " + " imports ".join(reversed(error.args[1]))]
    return []


def violations(sources: Mapping[str, str]) -> list[str]:
    """What is wrong with the imports of these modules (full name -> source), a line each."""
    wrong = [f"{unit} has no floor" for unit in sorted({unit_of(module) for module in sources} - FLOOR.keys())]
    modules: dict[str, set[str]] = {module: set() for module in sources}
    units: dict[str, set[str]] = {unit_of(module): set() for module in sources}
    for module in sources:
        unit = unit_of(module)
        for target, lazy in imports(module, sources):
            root = target.partition(".")[0]
            if root in FLOOR:
                if FLOOR.get(unit_of(target), -1) > FLOOR.get(unit, len(FLOORS)):
                    wrong.append(f"upward: {module} imports {target}")
                modules[module].add(target)
                units[unit] |= {unit_of(target)} - {unit}
            elif (
                unit not in ("experiments", "rvsmjax_experiments")
                and root not in ALLOWED
                and not (lazy and (module, root) in LAZY)
            ):
                wrong.append(f"heavy: {module} imports {target}")
    return wrong + circle(modules) + circle(units)


def test_the_house_stands():
    folders = (ROOT / "rvsmjax", ROOT / "experiments", ROOT / "rvsmjax_experiments")
    paths = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    sources = {name: path.read_text(encoding="utf-8") for name, path in zip(names, paths, strict=True)}
    assert {"rvsmjax", "rvsmjax.geometry", "experiments"} <= sources.keys()
    assert violations(sources) == []


GOOD = {
    "rvsmjax": "from rvsmjax.penalties import L1",
    "rvsmjax._checks": "import math",
    "rvsmjax.geometry": "from rvsmjax import _checks\nimport jax.numpy as jnp",
    "rvsmjax.penalties": "from .l1 import L1",
    "rvsmjax.penalties.l1": "from ..geometry import norm",
    "rvsmjax.problems": "from rvsmjax.penalties import L1",
    "rvsmjax.transforms": "from rvsmjax.problems import relu",
    "rvsmjax.sweep": "from rvsmjax.sweep import result",
    "rvsmjax.sweep.result": "def to_xarray():\n    import xarray",
    "experiments": "import rvsmjax as rv\nimport matplotlib.pyplot",
}


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        (
            "rvsmjax.geometry",
            "import rvsmjax.penalties.l1",
            "upward: rvsmjax.geometry imports rvsmjax.penalties.l1",
        ),
        (
            "rvsmjax.penalties.l1",
            "from .. import problems",
            "upward: rvsmjax.penalties.l1 imports rvsmjax.problems",
        ),
        ("rvsmjax.problems", "import rvsmjax as rv", "upward: rvsmjax.problems imports rvsmjax"),
        ("rvsmjax", "def f():\n    import experiments", "upward: rvsmjax imports experiments"),
        ("rvsmjax.penalties.l1", "from rvsmjax.penalties import x", "circle: rvsmjax.penalties"),
        ("rvsmjax.problems", "from rvsmjax import transforms", "circle: rvsmjax."),
        ("rvsmjax.sweep.result", "import xarray", "heavy: rvsmjax.sweep.result imports xarray"),
        ("rvsmjax.problems", "def f():\n    import xarray", "heavy: rvsmjax.problems imports xarray"),
        ("rvsmjax.attic", "", "rvsmjax.attic has no floor"),
    ],
)
def test_the_checker_sees(module, source, complaint):
    assert violations(GOOD) == []
    assert any(line.startswith(complaint) for line in violations(GOOD | {module: source}))
