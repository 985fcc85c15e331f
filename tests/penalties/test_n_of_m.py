"""NM compared with a search over every support of each block, along every axis, eagerly and in a compiled step."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv


def nearest(block, n):
    """Returns the nearest point with n components kept; ties go to the first support in lexical order."""
    supports = [np.isin(np.arange(len(block)), kept) for kept in itertools.combinations(range(len(block)), n)]
    distances = [(block[~support] ** 2).sum() for support in supports]
    return np.where(supports[int(np.argmin(distances))], block, 0)


@pytest.mark.parametrize(("n", "m", "axis"), [(2, 4, -2), (1, 4, -1), (3, 4, 0), (4, 4, -2), (1, 2, 1), (2, 8, 0)])
def test_against_every_support(n, m, axis):
    rng = np.random.default_rng(n + 10 * m)
    v = rng.integers(-3, 4, (8, 4, 8)).astype("f4")  # many ties, zeros among them
    if axis == -2:
        v = v.swapaxes(0, 1)
    want = np.moveaxis(v.copy(), axis, -1).copy()
    for lane in want.reshape(-1, want.shape[-1]):
        for start in range(0, len(lane), m):
            lane[start : start + m] = nearest(lane[start : start + m], n)
    want = np.moveaxis(want, -1, axis)
    penalty = rv.NM(n, m, axis)
    x = np.asarray(jax.jit(penalty.prox)(v, 0.3))
    np.testing.assert_array_equal(x, want)
    assert float(penalty.value(x)) == 0
    assert float(penalty.value(v)) == (0 if n == m else np.inf)


def test_the_blocks_of_a_kernel_run_over_its_inputs():
    kernel = jnp.arange(1.0, 13).reshape(4, 3)
    assert np.flatnonzero(rv.NM().prox(kernel).any(1)).tolist() == [2, 3]
    assert rv.NM(1, 3).prox(jnp.array([1.0, -1.0, 1.0, 0.0, 2.0, -5.0])).tolist() == [1, 0, 0, 0, 0, -5]


def test_infinities_and_tiny_numbers_are_ordered_correctly():
    v = jnp.array([1e-36, jnp.inf, -1e-30, 0.0, 3e38, -jnp.inf, 1.0, jnp.inf])
    assert rv.NM(2, 4).prox(v).tolist() == [0, jnp.inf, float(v[2]), 0, 0, -jnp.inf, 0, jnp.inf]


def test_the_count_is_exact_if_the_compiler_computes_the_weights_twice():
    rng = np.random.default_rng(0)
    start, grads = rng.normal(size=(2, 8, 4)).astype("f4")
    tx = optax.chain(rv.rvsm(rv.NM(), 0.05, 0.5), optax.sgd(0.1, momentum=0.9))

    def steps(w, g):
        state, forces = tx.init(w), []
        for _ in range(3):
            forces.append(rv.NM().shrinkage(w, 0.1))
            updates, state = tx.update(g, state, w)
            w = optax.apply_updates(w, updates)
        return jnp.stack(forces), w

    forces, w = jax.jit(steps)(start, grads)
    assert (np.asarray(forces) == 0).sum((1, 2)).tolist() == [16] * 3
    np.testing.assert_allclose(w, steps(start, grads)[1], rtol=1e-5, atol=1e-6)


def test_errors():
    for n, m, message in [
        (0, 4, r"^n must be a whole number >= 1, got 0$"),
        (1.5, 4, r"^n must be a whole number >= 1, got 1.5$"),
        (1, 0, r"^m must be a whole number >= 1, got 0$"),
        (5, 4, r"^n must be at most m = 4, got 5$"),
    ]:
        with pytest.raises(ValueError, match=message):
            rv.NM(n, m)
    for axis in ("in", 1.5):
        with pytest.raises(TypeError, match=rf"^axis must be a whole number, got '?{axis}'?$"):
            rv.NM(2, 4, axis)
    assert rv.NM(2.0, 4.0) == rv.NM(2, 4)
    assert rv.NM(2.0, 4.0).prox(jnp.arange(1.0, 5)).tolist() == [0, 0, 3, 4]
    for shape, axis in [((), -2), ((6,), -2), ((6, 4), -2), ((4, 4), 2), ((4, 4), -3), ((4, 6), -1)]:
        for call in (lambda p, x: p.prox(x), lambda p, x: p.value(x)):
            with pytest.raises(
                ValueError, match=r"^axis -?\d must have a length that is a multiple of m = 4, got shape"
            ):
                call(rv.NM(2, 4, axis), jnp.ones(shape))
    with pytest.raises(NotImplementedError, match=r"^NM has no fixed threshold"):
        rv.NM().threshold(0.1)
