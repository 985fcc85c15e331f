"""Environment of a rented machine, and small images packed like CIFAR-10."""

import os

import pytest

from experiments.accelerator import rehearsal
from experiments.accelerator.paths import Paths
from experiments.data import cifar10
from tests.experiments.accelerator.lines import ABSENT, ROOT

BLOCK = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def environment(tmp_path):
    """Environment of processes that cannot import the packages in ``ABSENT``."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BLOCK)
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return os.environ | quick | {"PYTHONPATH": f"{folder}:{ROOT}"}


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """Folder of six small mosaics, accepted as those of CIFAR-10 during the test."""
    monkeypatch.setattr(cifar10, "FILES", dict(cifar10.FILES))
    folder = tmp_path / "root" / "packed"
    rehearsal.make_images(folder)
    rehearsal.use_small_images(Paths(tmp_path / "root"))
    return folder
