"""Margins against hand-computed inequalities."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.studies.audit.margins import at_least, at_most, equal

EPS = np.finfo(np.float32).eps


@pytest.mark.parametrize(
    ("margin", "slack"),
    [
        (at_most(1.0, 3.0), 2.0),
        (at_most(jnp.array([1.0, 4.0, 2.0]), 3.0), -1.0),
        (at_least(jnp.array([1.0, 4.0]), jnp.array([0.5, 4.25])), -0.25),
        (equal(jnp.array([[1.0, 2.0], [3.0, 5.0]]), jnp.array([1.0, 2.0])), -3.0),
        (equal(2.0, 2.0), 0.0),
    ],
)
def test_the_worst_entry_counts(margin, slack):
    assert float(margin.slack) == slack
    assert margin.slack.shape == margin.allowance.shape == ()


def test_the_allowance_follows_the_terms():
    plain, wide = at_most(1.0, 2.0), at_most(1.0, 2.0, 97.0)
    assert float(plain.allowance) == pytest.approx(256 * EPS * 3, rel=1e-6)
    assert float(wide.allowance) == pytest.approx(256 * EPS * 100, rel=1e-6)
    assert float(at_most(1.0, 2.0, error=7.0).allowance) == pytest.approx(7.0, rel=1e-4)


def test_the_worst_entry_is_relative_to_its_allowance():
    margin = at_most(jnp.array([0.002, 0.001]), 0.0, error=jnp.array([1.0, 0.0]))
    assert float(margin.slack) == pytest.approx(-0.001)
