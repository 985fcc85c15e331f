"""ℓ1 − ℓ2 and SLOPE, which compare components: other vectors, isotonic regression, finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.isotonic import isotonic_regression

import rvsmjax as rv

pytestmark = pytest.mark.usefixtures("x64")
MAKE = {"l1_minus_l2": lambda a: rv.L1MinusL2(a), "slope": lambda a: rv.SLOPE(a * jnp.linspace(1.5, 0.25, 6))}
proxes = {kind: jax.jit(lambda v, s, a, kind=kind: MAKE[kind](a).prox(v, s)) for kind in MAKE}
kinds = pytest.mark.parametrize("kind", MAKE)


def total(kind, x, v, step, a):
    size = np.abs(x)
    price = {
        "l1_minus_l2": size.sum(-1) - a * np.sqrt((size**2).sum(-1)),
        "slope": (np.sort(size, -1)[..., ::-1] * a * np.linspace(1.5, 0.25, 6)).sum(-1),
    }[kind]
    return ((x - v) ** 2).sum(-1) / 2 + step * price


@kinds
def test_no_other_vector_is_better(kind):
    rng = np.random.default_rng(0)
    for _ in range(40):
        v = rng.normal(size=6) * 10 ** rng.uniform(-0.5, 0.5, 6)
        step, a = 10 ** rng.uniform(-1, 0.7), rng.choice([0.3, 1.0])
        x = np.asarray(proxes[kind](v, step, a))
        masks = rng.random((4000, 6)) < rng.uniform(0, 1, (4000, 1))
        near = x + rng.normal(size=(4000, 6)) * 10 ** rng.uniform(-4, 0, (4000, 1))
        others = [near, v * masks * rng.uniform(0, 1.5, (4000, 1)), x * masks]
        assert total(kind, x, v, step, a) <= min(total(kind, y, v, step, a).min() for y in others) + 1e-12


def test_slope_of_long_vectors_is_isotonic_regression():
    rng = np.random.default_rng(1)
    n, run = 3000, jax.jit(lambda v, w: (rv.SLOPE(w).prox(v, 0.5), rv.SLOPE(w).shrinkage(v, 0.5)))
    for weights in (
        np.linspace(3, 0, n),
        np.full(n, 1.0),
        (np.arange(n) < 50) * 4.0,
        np.sort(rng.exponential(size=n))[::-1],
    ):
        v = rng.normal(size=n)
        order = np.argsort(-np.abs(v))
        want = np.zeros(n)
        want[order] = np.maximum(isotonic_regression(np.abs(v)[order] - 0.5 * weights, increasing=False), 0)
        x, rest = run(v, weights)
        np.testing.assert_allclose(x, np.sign(v) * want, atol=1e-12)
        np.testing.assert_allclose(x + rest, v, atol=1e-15)


@kinds
def test_derivatives_against_finite_differences(kind):
    rng = np.random.default_rng(2)
    jacobian = jax.jit(jax.jacfwd(proxes[kind], (0, 1, 2)))
    back = jax.jit(jax.jacrev(proxes[kind], (0, 1, 2)))
    for step in (0.2, 0.6, 4.0):
        v, a, h = rng.normal(size=6), 0.7, 1e-6
        got = jacobian(v, step, a)
        for one, other in zip(got, back(v, step, a), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-12)
        for i in range(6):
            e = h * np.eye(6)[i]
            want = (proxes[kind](v + e, step, a) - proxes[kind](v - e, step, a)) / (2 * h)
            np.testing.assert_allclose(got[0][:, i], want, atol=1e-7)
        want = (proxes[kind](v, step + h, a) - proxes[kind](v, step - h, a)) / (2 * h)
        np.testing.assert_allclose(got[1], want, atol=1e-7)
        want = (proxes[kind](v, step, a + h) - proxes[kind](v, step, a - h)) / (2 * h)
        np.testing.assert_allclose(got[2], want, atol=1e-7)


@kinds
def test_groups_of_norms_and_empty_leaves(kind):
    """Along the groups' directions the problem is that of the norms."""
    v = np.random.default_rng(3).normal(size=(6, 4))
    x = rv.Grouped(MAKE[kind](0.7), axes=1).prox(v, 0.5)
    norms = np.linalg.norm(v, axis=1)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), proxes[kind](norms, 0.5, 0.7), atol=1e-12)
    if kind == "l1_minus_l2":
        assert rv.L1MinusL2().prox(jnp.zeros((0, 3)), 0.5).shape == (0, 3)
