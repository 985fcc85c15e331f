"""The code in README.md and docs/ runs as it stands."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv

ROOT = Path(__file__).parents[1]


def blocks(path):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / path).read_text(encoding="utf-8"), re.M | re.S)


PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]
CODE = [pytest.param(page, n, id=f"{page} {n}") for page in PAGES for n in range(len(blocks(page)))]


@pytest.mark.parametrize(("page", "n"), CODE)
def test_code_runs(page, n, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what the code writes
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(20, 10)), "float32")
    names = {"rv": rv, "optax": optax, "jnp": jnp, "params": {"kernel": kernel, "bias": jnp.ones(10)}}
    exec(compile(blocks(page)[n], f"{page} {n}", "exec"), names)
    assert "NaN" not in capsys.readouterr().out
