"""The code in README.md and docs/ runs unchanged, block after block, and prints the output shown below it."""

import ast
import importlib.util
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```(?:\n\n```text\n(?P<shown>.*?)^```)?", re.M | re.S)
"""Python, and the output that follows it at once."""
OPTIONAL = {"haiku", "keras", "mlflow", "optuna", "tensorboardX", "wandb"}
"""Packages that the tests may lack: blocks that import a missing one are left out, and the page counts as skipped."""


def blocks(page):
    return list(BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")))


PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]


def names_of(page):
    """Returns the names defined before the first block: none, except the usual imports in README.md."""
    if page != "README.md":
        return {}
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(20, 10)), "float32")
    return {"rv": rv, "optax": optax, "jnp": jnp, "params": {"kernel": kernel, "bias": jnp.ones(10)}}


def missing(code):
    """Returns the optional packages that a block imports and that are not installed."""
    nodes = list(ast.walk(ast.parse(code)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {
        name for name in OPTIONAL & {name.partition(".")[0] for name in names} if not importlib.util.find_spec(name)
    }


@pytest.mark.parametrize(
    "page",
    [
        page if page == "README.md" else pytest.param(page, marks=pytest.mark.robustness)
        for page in PAGES
        if blocks(page)
    ],
)
def test_code_runs(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # files that the code writes
    monkeypatch.syspath_prepend(ROOT / "examples")  # a page copies from one
    names, absent = names_of(page), set()
    for number, block in enumerate(blocks(page)):
        if lacking := missing(block["code"]):
            absent |= lacking
            continue
        exec(compile(block["code"], f"{page} {number}", "exec"), names)
        printed = capsys.readouterr().out
        assert "NaN" not in printed
        assert block["shown"] in (None, printed)
    if absent:
        pytest.skip(f"all but the blocks with {', '.join(sorted(absent))} ran")
