"""The examples run, and their u is as sparse and as accurate as they say."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("digits_*.py"))
by_name = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@by_name
def test_is_short(path):
    assert len(path.read_text().splitlines()) < 60


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
