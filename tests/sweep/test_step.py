"""Tests of the fused step against the equivalent optax chain."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.sweep._tiles import step as fused
from rvsmjax.transforms import unit_sphere

PENALTIES = [rv.L1(), rv.L0(), rv.TransformedL1(0.7), rv.Grouped(rv.L1(), axes=(0,)), rv.TopK(k=4)]
# The step uses a problem in the same way for every penalty.
CASES = [(rv.NoOverlapReLU, p) for p in PENALTIES] + [(rv.NoOverlapBinary, p) for p in PENALTIES[1:3]]
D, LANES = 9, 6


def lanes(dtype):
    rng = np.random.default_rng(3)
    w_star, w = rng.standard_normal((2, D, LANES))
    w_star[:, 1] = w[:, 1]  # θ = 0
    w_star[:, 2] = w[:, 2] + 1e-4 * rng.standard_normal(D)
    w_star[:, 3] = -w[:, 3] + 1e-2 * rng.standard_normal(D)  # θ near π
    w_star, w = (v / np.linalg.norm(v, axis=0) for v in (w_star, w))
    k, lam, beta = np.arange(1, LANES + 1), np.geomspace(1e-4, 1e-2, LANES), np.geomspace(0.3, 4e-3, LANES)
    return [jnp.asarray(v, dtype) for v in (w_star, w, k, lam, beta, 1 / (4 + beta))]


def by_chain(kind, penalty, normalize, count, w_star, w, k, lam, beta, eta):
    """Runs one lane by the optax chain; returns w and its residual ‖∇f + β(w − u)‖."""
    links = [rv.rvsm(penalty, lam, beta), optax.scale(-eta)]
    chain = optax.chain(*links, unit_sphere()) if normalize else optax.chain(*links)
    problem = kind(k)

    def one(carry, _):
        w, state = carry
        updates, state = chain.update(problem.grad(w, w_star), state, w)
        return (w + updates, state), None

    (w, state), _ = jax.lax.scan(one, (w, chain.init(w)), length=count)
    gradient = problem.grad(w, w_star) + beta * (w - rv.sparse_params(state, w))
    return w, jnp.linalg.norm(gradient - (jnp.dot(gradient, w) * w if normalize else 0))


@pytest.mark.parametrize(
    ("kind", "penalty", "normalize"),
    [
        pytest.param(
            kind, penalty, on, id=f"{kind.__name__}-{penalty.name}-{on}", marks=pytest.mark.slow if free else ()
        )
        for index, (kind, penalty) in enumerate(CASES)
        for on, free in ((index % 2 == 0, False), (index % 2 == 1, True))
    ],
)
def test_fused_step_is_the_chain(x64, kind, penalty, normalize):
    chains = jax.jit(jax.vmap(functools.partial(by_chain, kind, penalty, normalize, 5), (1, 1, 0, 0, 0, 0), (1, 0)))
    for (dtype, rtol), unrolled in itertools.product(((jnp.float64, 1e-12), (jnp.float32, 3e-6)), (True, False)):
        w_star, w, k, lam, beta, eta = drawn = lanes(dtype)
        cast = jax.tree.map(functools.partial(jnp.full_like, k), penalty)
        tile = fused.Tile(kind(k), cast, lam, beta, eta, w_star, normalize, unrolled)

        def run(tile=tile, w=w):
            iteration = fused.Iteration(tile)
            new = iteration.advance(w, jnp.ones(LANES, bool), 5)
            return tile.scaled(new), iteration.residual(new)

        got, got_residual = jax.jit(run)()
        want, want_residual = chains(*(numbers.astype(float) for numbers in drawn))
        np.testing.assert_allclose(got, want, rtol=0, atol=rtol)
        np.testing.assert_allclose(got_residual, want_residual, rtol=0, atol=rtol)
        assert got.dtype == dtype


@pytest.mark.parametrize("normalize", [True, False])
def test_finished_lanes_keep_their_bits(normalize):
    w_star, w, k, lam, beta, eta = lanes(jnp.float32)
    going = jnp.arange(LANES) % 2 == 0
    tile = fused.Tile(rv.NoOverlapReLU(k), rv.L1(), lam, beta, eta, w_star, normalize, True)
    new = jax.jit(lambda w: fused.Iteration(tile).advance(w, going, 5))(w)
    np.testing.assert_array_equal(new[:, ~going], w[:, ~going])
    assert (new[:, going] != w[:, going]).any(0).all()


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("d", [1, 3, 4, 7, 12, 64, 65, 112, 113, 160, pytest.param(2561, marks=pytest.mark.slow)])
def test_unrolled_sums_are_correct(d, rows):
    a, b = jnp.asarray(np.random.default_rng(d).normal(size=(2, d, LANES)), jnp.float32)
    tile = fused.Tile(None, None, None, None, None, None, normalize=True, unrolled=True)
    result = jax.jit(functools.partial(tile.sum, jax.lax.mul, rows=rows))(a, b)
    np.testing.assert_allclose(result, np.sum(np.multiply(a, b, dtype=float), 0), atol=1e-5 * max(1, d / 100))


def test_rows_of_zeros_change_no_bit_of_a_folded_sum():
    a, b = jnp.asarray(np.random.default_rng(0).normal(size=(2, 130, LANES)), jnp.float32)
    tile = fused.Tile(None, None, None, None, None, None, normalize=True, unrolled=True)
    sums = jax.jit(functools.partial(tile.sum, jax.lax.mul))
    want = sums(a, b)
    for more in (1, 30, 70):
        np.testing.assert_array_equal(sums(*(jnp.pad(x, ((0, more), (0, 0))) for x in (a, b))), want)
