"""The examples run, and their u is as sparse and as accurate as they say."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("digits_*.py"))
by_name = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def load(path):
    if path.stem == "digits_keras":
        pytest.importorskip("keras")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_is_short(path):
    assert len(path.read_text().splitlines()) < 80


@pytest.mark.robustness
@by_name
def test_two_seeds_on_validation(path, capsys):
    accuracy, zeros = load(path).main(seeds=2, epochs=15, held_out="validation")
    assert accuracy > 0.9
    assert zeros >= 0.9
    assert "total" in capsys.readouterr().out


@pytest.mark.slow
@by_name
def test_five_seeds_on_test(path):
    accuracy, zeros = load(path).main()
    assert accuracy >= 0.97
    assert zeros >= 0.9


def decoder(steps):
    """Runs the example as a program; returns the difference of losses, the moved zeros, the last loss."""
    program = [sys.executable, FOLDER / "sharded_decoder.py", str(steps)]
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    printed = subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout
    assert len(re.findall(r" (?:90.0\d|89.9\d)%$", printed, re.M)) == 6
    found = re.search(r"losses differ by (\S+), zeros at (\d+) places; loss (\S+)$", printed, re.M)
    return tuple(map(float, found.groups()))


@pytest.mark.robustness
def test_the_sharded_decoder_equals_that_on_one_device():
    """To rounding: sums over a sharded axis have another order. The zeros are the same."""
    difference, moved, _ = decoder(6)
    assert difference < 1e-5
    assert moved == 0


@pytest.mark.slow
def test_the_sharded_decoder_learns():
    assert decoder(400)[2] < 1
