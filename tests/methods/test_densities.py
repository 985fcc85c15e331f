"""Densities of the leaves compared with the formula of the papers, solved by bisection; exact totals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvsmjax.methods.dynamic.densities import live_counts

LENET = [(5, 5, 1, 20), (5, 5, 20, 50), (800, 500), (500, 10)]
SHAPES = st.lists(st.lists(st.integers(1, 40), min_size=2, max_size=4).map(tuple), min_size=1, max_size=6)


def kernel_densities(shapes, live):
    """min(1, ε(n_in + n_out + w + h)/(n_in·n_out·w·h)), with ε by bisection on the total, in float64."""
    sizes = np.array([math.prod(shape) for shape in shapes], float)
    raw = np.array([sum(shape) for shape in shapes]) / sizes
    low, high = 0.0, 1 / raw.min()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (np.minimum(1, middle * raw) * sizes).sum() < live else (low, middle)
    return np.minimum(1, high * raw)


@given(SHAPES, st.floats(0, 0.999), st.sampled_from(["erk", "uniform"]))
def test_the_formula_and_the_total(shapes, sparsity, distribution):
    sizes = np.array([math.prod(shape) for shape in shapes])
    live = sizes.sum() - round(sparsity * sizes.sum())
    counts = np.array(live_counts(shapes, sparsity, distribution))
    assert counts.sum() == live
    assert ((counts >= 0) & (counts <= sizes)).all()
    want = kernel_densities(shapes, live) if distribution == "erk" else np.full(len(shapes), live / sizes.sum())
    assert np.abs(counts - want * sizes).max() < 1 + 1e-6


def test_small_leaves_of_lenet_are_dense():
    sizes = [math.prod(shape) for shape in LENET]
    counts = live_counts(LENET, 0.9)
    assert [count == size for count, size in zip(counts, sizes, strict=True)] == [True, False, False, True]
    # What is left for the others is shared by their dimensions, 5 + 5 + 20 + 50 and 800 + 500.
    assert sum(counts) == sum(sizes) - round(0.9 * sum(sizes))
    assert counts[1] / counts[2] == pytest.approx(80 / 1300, rel=1e-3)


def test_ends():
    assert live_counts(LENET, 0.0) == [math.prod(shape) for shape in LENET]
    assert live_counts([(0, 3), (4, 4)], 0.5) == [0, 8]
    assert live_counts([], 0.5) == []


def test_errors():
    with pytest.raises(ValueError, match=r"^distribution must be one of erk, uniform, got 'er'$"):
        live_counts(LENET, 0.5, "er")
    with pytest.raises(ValueError, match=r"^sparsity must be in \[0, 1\), got 1.0$"):
        live_counts(LENET, 1.0)


def test_a_scalar_is_kept_like_a_vector():
    assert live_counts([(8, 8), (), (8,)], 0.0) == [64, 1, 8]
    assert live_counts([(8, 8), (), (8,)], 0.5)[1:] == [1, 8]
