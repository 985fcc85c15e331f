"""Sparsity schedules: formulas in float64, endpoints, invalid input."""

import math

import jax
import numpy as np
import pytest

import rvsmjax as rv

BY_HAND = {
    rv.cubic_sparsity: lambda s, f, t: f + (s - f) * (1 - t) ** 3,
    rv.cosine_sparsity: lambda s, f, t: s + (f - s) * (1 - math.cos(math.pi * t)) / 2,
}
each = pytest.mark.parametrize("make", BY_HAND, ids=lambda make: make.__name__)


@each
@pytest.mark.parametrize(
    ("final", "begin", "end", "initial"), [(0.9, 0, 100, 0.0), (0.95, 10, 13, 0.5), (0.2, 3, 50, 0.7)]
)
def test_against_the_formula(make, final, begin, end, initial):
    steps = np.array([0, begin, begin + 1, (begin + end) // 2, end - 1, end, end + 1, 10**6])
    got = jax.jit(jax.vmap(make(final, begin, end, initial)))(steps)
    share = [min(max((step - begin) / (end - begin), 0), 1) for step in steps]
    np.testing.assert_allclose(got, [BY_HAND[make](initial, final, t) for t in share], rtol=0, atol=3e-7)


@each
def test_the_ends_are_exact_and_the_rise_is_monotone(make):
    for final in np.arange(0.05, 1, 0.05):
        values = np.asarray(jax.vmap(make(final, 2, 40))(np.arange(60)))
        assert np.all(values[:3] == 0)
        assert np.all(values[40:] == np.float32(final))
        assert np.all(np.diff(values) >= 0)


@each
def test_errors(make):
    for arguments, message in [
        ((1.0, 0, 9), r"^final must be in \[0, 1\), got 1.0$"),
        ((-0.1, 0, 9), r"^final must be in \[0, 1\), got -0.1$"),
        ((0.9, 0, 9, 1.5), r"^initial must be in \[0, 1\), got 1.5$"),
        ((0.9, -1, 9), r"^begin must be a whole number >= 0, got -1$"),
        ((0.9, 0, 9.5), r"^end must be a whole number >= 1, got 9.5$"),
        ((0.9, 5, 5), r"^end must be > begin = 5, got 5$"),
    ]:
        with pytest.raises(ValueError, match=message):
            make(*arguments)
