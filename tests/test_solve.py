"""solve: limits satisfy the equilibrium, statuses are correct, lanes are independent."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv

PENALTIES = {"l1": rv.L1(), "l0": rv.L0(), "tl1": rv.TransformedL1(1.0)}
K = 3
RELU = rv.NoOverlapReLU(K)


def starts(count, d=20, seed=0, dtype="f8"):
    w, w_star = np.random.default_rng(seed).normal(size=(2, count, d))
    return (np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype) for x in (w, w_star))


def chain(penalty, lam, beta, rate=0.24, sphere=True):
    links = [rv.rvsm(penalty, lam, beta), optax.sgd(rate)]
    return optax.chain(*links, *([rv.unit_sphere()] if sphere else []))


def gradient(w, w_star, k=K):
    """Returns ∇f by the paper's formula, in NumPy, for rows of w."""
    n, n_star = np.linalg.norm(w, axis=-1, keepdims=True), np.linalg.norm(w_star, axis=-1, keepdims=True)
    inner = (w * w_star).sum(-1, keepdims=True)
    theta = np.arctan2(np.linalg.norm(w * inner / n**2 - w_star, axis=-1, keepdims=True), inner / n)
    radial = k + (k**2 - k) / np.pi - k / np.pi * n_star / n * np.sin(theta) - (k**2 - k) / np.pi * n_star / n
    return (radial * w - k / np.pi * (np.pi - theta) * w_star) / k**2


def across(w, v):
    """The part of each row of v that is orthogonal to w."""
    return v - (v * w).sum(-1, keepdims=True) / (w * w).sum(-1, keepdims=True) * w


@partial(jax.jit, static_argnames=("sphere", "max_steps", "check_every", "trace_every"))
def batch(penalty, w, w_star, lam, beta, rate, tol, *, sphere=True, **options):
    def one(w, w_star, lam, beta, rate):
        solution = rv.solve(RELU, chain(penalty, lam, beta, rate, sphere), w, w_star, tol=tol, **options)
        return solution._replace(opt_state=None)

    return jax.vmap(one)(w, w_star, lam, beta, rate)


def lanes(penalty, w, w_star, lam, beta, *, rate=0.24, tol=1e-6, **options):
    lam, beta, rate = (np.broadcast_to(x, len(w)).astype(w.dtype) for x in (lam, beta, rate))
    return jax.tree.map(np.asarray, batch(penalty, w, w_star, lam, beta, rate, tol, **options))


def equilibrium_gap(s, w_star, beta):
    """|((π − θ)/(kπ))·sin θ − β‖u‖ sin γ|, in float64."""
    w, u, w_star = (np.asarray(x, "f8") for x in (s.w, s.u, w_star))
    sin_theta = np.linalg.norm(across(w, w_star), axis=1)
    theta = np.arctan2(sin_theta, (w * w_star).sum(1))
    return np.abs((np.pi - theta) / (K * np.pi) * sin_theta - beta * np.linalg.norm(across(w, u), axis=1))


LAM, BETA = np.array([1e-4, 1e-4, 1e-3, 0.02]), np.array([4e-3, 4e-3, 0.05, 0.3])


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES.keys())
def test_the_limit_is_an_equilibrium_in_float64(penalty, x64):
    w, w_star = starts(4)
    s = lanes(penalty, w, w_star, LAM, BETA, tol=1e-13, check_every=10)
    assert s.converged.all()
    assert equilibrium_gap(s, w_star, BETA).max() < 1e-12
    np.testing.assert_allclose(np.linalg.norm(s.w, axis=1), 1, atol=1e-15)
    pull = gradient(s.w, w_star) + BETA[:, None] * (s.w - s.u)
    assert np.linalg.norm(across(s.w, pull), axis=1).max() < 1e-12
    assert ((s.u == 0).sum(1) > 0).any()
    assert (s.w != 0).all()


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES.keys())
def test_the_limit_is_an_equilibrium_in_float32(penalty):
    w, w_star = starts(4, dtype="f4")
    s = lanes(penalty, w, w_star, LAM, BETA, tol=1e-6, check_every=10)
    assert s.w.dtype == s.u.dtype == s.residual.dtype == "float32"
    assert s.converged.all()
    assert equilibrium_gap(s, w_star, BETA).max() < 2e-6


def test_without_normalization_the_forces_cancel(x64):
    w, w_star = starts(4, seed=1)
    w, w_star = 1.3 * w, 0.8 * w_star
    s = lanes(rv.TransformedL1(1.0), w, w_star, LAM, BETA, rate=0.5, sphere=False, tol=1e-12, check_every=10)
    assert s.converged.all()
    forces = gradient(s.w, w_star) + BETA[:, None] * (s.w - s.u)
    assert np.linalg.norm(forces, axis=1).max() < 2e-12


def test_without_splitting_the_limit_is_the_truth(x64):
    w, w_star = (x[0] for x in starts(1, seed=2))
    for tx in (optax.sgd(0.5, 0.5), optax.chain(optax.sgd(0.24), rv.unit_sphere())):
        s = jax.jit(lambda w, tx=tx: rv.solve(RELU, tx, w, w_star, tol=1e-11, check_every=10))(w)
        assert bool(s.converged)
        np.testing.assert_allclose(s.w, w_star, atol=1e-9)
        np.testing.assert_array_equal(s.u, s.w)


def test_statuses():
    w, w_star = starts(4, dtype="f4")
    w[0], w[3] = w_star[0], np.nan
    s = lanes(rv.L1(), w, w_star, 0.0, 0.1, rate=[0.5, 0.5, 1e30, 0.5], sphere=False, max_steps=7, tol=1e-6)
    assert s.status.tolist() == [rv.Status.CONVERGED, rv.Status.CAP, rv.Status.DIVERGED, rv.Status.DIVERGED]
    assert s.converged.tolist() == [True, False, False, False]
    assert s.steps.tolist()[:2] == [0, 7]
    assert s.steps[2] < 7
    assert np.isfinite(s.w[:3]).all()
    assert np.isfinite(s.residual[:3]).all()
    assert s.residual[1] > 1e-6


def test_a_diverging_lane_does_not_change_other_lanes():
    w, w_star = starts(3, dtype="f4")
    lam, beta = 1e-3, 0.05
    calm = lanes(rv.L1(), w, w_star, lam, beta, rate=[0.5, 0.4, 0.3], sphere=False, tol=2e-7, trace_every=64)
    wild = lanes(rv.L1(), w, w_star, lam, beta, rate=[0.5, 1e8, 0.3], sphere=False, tol=2e-7, trace_every=64)
    assert calm.status.tolist() == [0, 0, 0]
    assert wild.status.tolist() == [rv.Status.CONVERGED, rv.Status.DIVERGED, rv.Status.CONVERGED]
    for a, b in zip(jax.tree.leaves(calm), jax.tree.leaves(wild), strict=True):
        for lane in (0, 2):
            assert a[lane].tobytes() == b[lane].tobytes()
    assert np.isfinite(wild.w).all()


def test_the_trace_is_that_of_the_run(x64):
    (w,), (w_star,) = starts(1, seed=3)
    lam, beta, rate, every = 0.02, 0.3, 0.2, 3
    options = {"tol": 1e-6, "trace_every": every, "max_steps": 400}
    s = jax.jit(lambda w: rv.solve(RELU, chain(rv.L1(), lam, beta, rate), w, w_star, **options))(w)
    s = s._replace(trace=jax.tree.map(np.asarray, s.trace))
    steps = int(s.steps)
    loss = jax.jit(RELU.loss)
    for t in range(steps + 1):
        u = np.sign(w) * np.maximum(np.abs(w) - lam / beta, 0)
        force = gradient(w, w_star) + beta * (w - u)
        residual = np.linalg.norm(across(w, force))
        row = [float(column[t // every]) for column in s.trace]
        if t % every == 0:
            theta = np.arctan2(np.linalg.norm(across(w, w_star)), w @ w_star)
            lagrangian = loss(w, w_star) + lam * np.abs(u).sum() + beta / 2 * ((w - u) ** 2).sum()
            gamma = np.arctan2(np.linalg.norm(across(w, u)), w @ u)
            np.testing.assert_allclose(row, [lagrangian, theta, gamma, residual], rtol=1e-9, atol=1e-13)
        assert (residual > 1e-6) == (t < steps)
        if t < steps:
            w = w - rate * force
            w = w / np.linalg.norm(w)
    np.testing.assert_allclose(s.w, w, atol=1e-12)
    assert s.trace.theta.shape == (400 // every + 1,)
    assert all(np.isnan(column[steps // every + 1 :]).all() for column in s.trace)


def test_rarer_checks_stop_at_the_next_check(x64):
    (w,), (w_star,) = starts(1, seed=4)
    tx = chain(rv.TransformedL1(1.0), 0.01, 0.1)
    each, tenth = (jax.jit(lambda w, n=n: rv.solve(RELU, tx, w, w_star, tol=1e-8, check_every=n))(w) for n in (1, 10))
    assert int(tenth.steps) == -(-int(each.steps) // 10) * 10
    assert tenth.residual <= each.residual <= 1e-8
    assert each.trace is None


def test_new_numbers_do_not_retrace():
    w, w_star = (x[0] for x in starts(1, dtype="f4"))

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(k, a, lam, beta, rate, tol):
        tx = chain(rv.TransformedL1(a), lam, beta, rate)
        return rv.solve(rv.NoOverlapReLU(k), tx, w, w_star, tol=tol, max_steps=20).residual

    assert run(2, 1.0, 0.01, 0.1, 0.2, 1e-6) != run(5, 0.5, 0.02, 0.2, 0.1, 1e-5)


def test_bad_input():
    w, tx = jnp.ones(3), optax.sgd(0.1)
    for bad, message in [
        ({"w0": jnp.ones(4)}, r"^w0 and w_star must have last axes of the same length, got w0 \(4,\), w_star \(3,\)$"),
        ({"w0": jnp.ones((2, 3))}, r"^w0 must be one vector \(use vmap for more\), got shapes \(2, 3\) and \(3,\)$"),
        ({"w0": 1.0}, "^w0 must have at least one axis, got a scalar$"),
        ({"max_steps": 10**10}, r"^max_steps must be one whole number under 2\*\*31, got 10000000000$"),
        ({"check_every": [1, 2]}, r"^check_every must be one whole number under 2\*\*31, got \[1, 2\]$"),
        ({"tol": 0}, "^tol must be finite and > 0, got 0$"),
        ({"trace_every": 0}, "^trace_every must be a whole number >= 1, got 0$"),
        ({"trace_every": 3, "check_every": 2}, "^trace_every must be a multiple of check_every = 2, got 3$"),
    ]:
        with pytest.raises(ValueError, match=message):
            rv.solve(RELU, tx, **{"w0": w, "w_star": w, **bad})
    with pytest.raises(TypeError, match=r"^problem must be an instance of OneLayerProblem, got 'relu'$"):
        rv.solve("relu", tx, w, w)
    with pytest.raises(TypeError, match=r"^transform must be an optax\.GradientTransformation, got 0.1$"):
        rv.solve(RELU, 0.1, w, w)


def test_counts_may_be_whole_floats():
    w, tx = jnp.asarray([1.0, 0.0]), optax.sgd(0.1)
    assert rv.solve(RELU, tx, w, jnp.asarray([0.6, 0.8]), max_steps=10.0, check_every=5.0, trace_every=5.0).steps == 10


def test_a_trace_with_a_sparsity_by_leaf():
    w0, w_star = rv.geometry.unit(jax.random.normal(jax.random.key(0), (2, 6)))
    traces = []
    for scope in rv.penalties.top_k.SCOPES:
        split = rv.rvsm(rv.L1(), sparsity=0.5, beta=0.01, scope=scope)
        chain = optax.chain(split, optax.sgd(0.2), rv.unit_sphere())
        traces.append(rv.solve(rv.NoOverlapReLU(k=2), chain, w0, w_star, max_steps=300, trace_every=10).trace)
    chex.assert_trees_all_equal(*traces)
