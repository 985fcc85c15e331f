"""The code in README.md and docs/ runs unchanged, block after block, and prints the output shown below it."""

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


def blocks(page):
    return list(BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")))


PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]


def names_of(page):
    """Returns the names defined before the first block: none, except the usual imports in README.md."""
    if page != "README.md":
        return {}
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(20, 10)), "float32")
    return {"rv": rv, "optax": optax, "jnp": jnp, "params": {"kernel": kernel, "bias": jnp.ones(10)}}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_code_runs(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # files that the code writes
    names = names_of(page)
    for number, block in enumerate(blocks(page)):
        exec(compile(block["code"], f"{page} {number}", "exec"), names)
        printed = capsys.readouterr().out
        assert "NaN" not in printed
        assert block["shown"] in (None, printed)
