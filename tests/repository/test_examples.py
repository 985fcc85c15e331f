"""The examples run, and their u is as sparse and as accurate as they say."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

import rvsmjax as rv

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


DECODER = FOLDER / "sharded_decoder.py"


def test_the_sharded_decoder_equals_that_on_one_device():
    """To rounding: sums over a sharded axis have another order. The zeros are the same."""
    decoder = load(DECODER)
    (losses, u), (alone, v) = (decoder.train(jax.devices()[:n], steps=6) for n in (8, 1))
    np.testing.assert_allclose(losses, alone, rtol=1e-5)
    for a, b in zip(*(map(np.asarray, jax.tree.leaves(tree)) for tree in (u, v)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        np.testing.assert_array_equal(a == 0, b == 0)
    kernel = u["blocks"]["up"]["kernel"][...]
    assert kernel.sharding.shard_shape(kernel.shape) == (2, 16, 128)
    assert float(rv.sparsity(u).total.fraction) == pytest.approx(0.9, abs=1e-4)


@pytest.mark.slow
def test_the_sharded_decoder_learns():
    losses, alone, zeros = load(DECODER).main()
    assert max(losses[-1], alone[-1]) < losses[0] / 4
    assert zeros == pytest.approx(0.9, abs=1e-4)
