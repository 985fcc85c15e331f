"""rvsm in a chain: compared with a handwritten iteration, with various optimizers."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv

LAM, BETA, RATE, K, A = 0.02, 0.3, 0.2, 3, 0.5


def soft(v, s):
    return np.sign(v) * np.maximum(np.abs(v) - s, 0)


def hard(v, s):
    return np.where(np.abs(v) > np.sqrt(2 * s), v, 0)


def transformed(v, s, a=A):
    """Returns the closed form printed in the paper."""
    t = s * (a + 1) / a if s <= a**2 / (2 * (a + 1)) else np.sqrt(2 * s * (a + 1)) - a / 2
    m = a + np.abs(v)
    phi = np.arccos(np.clip(1 - 27 * s * a * (a + 1) / (2 * m**3), -1, 1))
    x = np.sign(v) * (2 / 3 * m * np.cos(phi / 3) - 2 * a / 3 + np.abs(v) / 3)
    return np.where(np.abs(v) > t, x, 0)


BY_HAND = {"l1": (rv.L1(), soft), "l0": (rv.L0(), hard), "tl1": (rv.TransformedL1(A), transformed)}


def relu_gradient(w, w_star):
    n, n_star = np.linalg.norm(w), np.linalg.norm(w_star)
    theta = np.arccos(w @ w_star / (n * n_star))
    radial = K + (K**2 - K) / np.pi - K / np.pi * n_star / n * np.sin(theta) - (K**2 - K) / np.pi * n_star / n
    return (radial * w - K / np.pi * (np.pi - theta) * w_star) / K**2


def run(chain, gradient, w, steps):
    """The iterates of a chain, in one jitted scan."""

    def step(carry, _):
        w, state = carry
        updates, state = chain.update(gradient(w), state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), (w, rv.sparse_params(state, w))

    return jax.jit(lambda w: jax.lax.scan(step, (w, chain.init(w)), length=steps)[1])(w)


@pytest.mark.parametrize("sphere", [True, False], ids=["normalized", "free"])
@pytest.mark.parametrize("kind", BY_HAND)
def test_the_chain_is_the_algorithm(kind, sphere, x64):
    penalty, prox = BY_HAND[kind]
    w, w_star = np.random.default_rng(0).normal(size=(2, 12))
    w, w_star = w / np.linalg.norm(w), w_star / np.linalg.norm(w_star)
    links = [rv.rvsm(penalty, LAM, BETA), optax.sgd(RATE), *([rv.unit_sphere()] if sphere else [])]
    ws, us = run(optax.chain(*links), lambda w: rv.NoOverlapReLU(K).grad(w, w_star), jnp.asarray(w), 20)
    for got_w, got_u in zip(ws, us, strict=True):
        w = w - RATE * relu_gradient(w, w_star) - RATE * BETA * (w - prox(w, LAM / BETA))
        w = w / np.linalg.norm(w) if sphere else w
        np.testing.assert_allclose(got_w, w, rtol=0, atol=1e-12)
        np.testing.assert_allclose(got_u, prox(w, LAM / BETA), rtol=0, atol=1e-12)
    assert 0 < (got_u == 0).sum() < 12


@pytest.mark.parametrize("coupled", [True, False], ids=["coupled", "decoupled"])
def test_before_or_after_momentum(coupled, x64):
    w0, target = np.random.default_rng(1).normal(size=(2, 6))
    links = [rv.rvsm(rv.L1(), LAM, BETA), optax.trace(0.9)]
    chain = optax.chain(*(links if coupled else links[::-1]), optax.scale_by_learning_rate(RATE))
    ws, _ = run(chain, lambda w: w - target, jnp.asarray(w0), 8)
    w, memory = w0, 0 * w0
    for got in ws:
        gradient, pull = w - target, BETA * (w - soft(w, LAM / BETA))
        memory = 0.9 * memory + gradient + (pull if coupled else 0)
        w = w - RATE * (memory + (0 if coupled else pull))
        np.testing.assert_allclose(got, w, rtol=0, atol=1e-13)


PARAMS = {
    "kernel": np.array([[1.0, 0.01], [-0.02, -3.0]], "f4"),
    "bias": np.array([0.01, -0.0, np.pi], "f4"),
    "embedding": np.array([[0.01, 7.0]], "f4"),
}
GRADS = {name: np.random.default_rng(2).normal(size=x.shape).astype("f4") for name, x in PARAMS.items()}


@pytest.mark.parametrize("mask", [None, "kernel", {"kernel": True, "bias": False, "embedding": False}])
def test_unselected_leaves_keep_every_bit(mask):
    tx = rv.rvsm(rv.L0(), lam=0.005, beta=1.0, mask=mask)
    updates, state = jax.jit(tx.update)(GRADS, tx.init(PARAMS), PARAMS)
    u = rv.sparse_params(state, PARAMS)
    for name in ("bias", "embedding"):
        assert np.asarray(updates[name]).tobytes() == GRADS[name].tobytes()
        assert np.asarray(u[name]).tobytes() == PARAMS[name].tobytes()
    np.testing.assert_allclose(updates["kernel"] - GRADS["kernel"], [[0, 0.01], [-0.02, 0]], atol=1e-7)


def test_the_state_holds_no_copy_of_the_params():
    for penalty in (rv.L1(), rv.TransformedL1(2.0), rv.Grouped(rv.TransformedL1(2.0), axes=(0,)), rv.TopK(k=2)):
        state = rv.rvsm(penalty, 0.1, 1.0, mask=True).init(PARAMS)
        assert all(np.shape(leaf) == () for leaf in jax.tree.leaves(state))
        assert len(jax.tree.leaves(state)) == 3 + len(jax.tree.leaves(penalty))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_dtype_is_kept(dtype):
    params = {"kernel": jnp.asarray(PARAMS["kernel"], dtype)}
    for penalty in (rv.L1(), rv.L0(), rv.TransformedL1(), rv.Grouped(rv.L1(), axes=(0,)), rv.TopK(sparsity=0.5)):
        chain = optax.chain(rv.rvsm(penalty, 0.1, 1.0), optax.sgd(0.1, 0.9))
        state = chain.init(params)
        updates, new_state = jax.eval_shape(chain.update, params, state, params)
        u = jax.eval_shape(rv.sparse_params, state, params)
        assert updates["kernel"].dtype == u["kernel"].dtype == dtype
        kind = [[(x.dtype, x.shape, x.weak_type) for x in jax.tree.leaves(s)] for s in (state, new_state)]
        assert kind[0] == kind[1]


def test_jit_equals_eager():
    tx = rv.rvsm(rv.L1(), 0.1, 1.0, mask=True)
    state = tx.init(PARAMS)
    eager, compiled = tx.update(GRADS, state, PARAMS), jax.jit(tx.update)(GRADS, state, PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), eager, compiled)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_injected_numbers_act_at_once_and_do_not_retrace(dtype):
    chain = optax.inject_hyperparams(rv.rvsm)(rv.L0(), lam=0.0, beta=0.5)
    w = jnp.array([1.0, 0.125, -0.25], dtype)
    state = chain.init(w)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def update(g, state, w):
        return chain.update(g, state, w)

    for lam, beta in itertools.product([0.0, 1 / 128, 1 / 32], [0.5, 1.0]):
        state.hyperparams["lam"] = jnp.asarray(lam, state.hyperparams["lam"].dtype)
        state.hyperparams["beta"] = jnp.asarray(beta, state.hyperparams["beta"].dtype)
        updates, state = update(0 * w, state, w)
        u = hard(np.asarray(w, "f4"), lam / beta)
        np.testing.assert_array_equal(np.asarray(updates, "f4"), beta * (np.asarray(w, "f4") - u))
        np.testing.assert_array_equal(np.asarray(rv.sparse_params(state, w), "f4"), u)


def test_a_schedule_for_lam():
    chain = optax.inject_hyperparams(rv.rvsm)(rv.L1(), lam=optax.linear_schedule(0.0, 0.3, 3), beta=1.0)
    w = jnp.array([1.0, -2.0])
    state = chain.init(w)
    for lam in (0.0, 0.1, 0.2, 0.3, 0.3):
        updates, state = jax.jit(chain.update)(0 * w, state, w)
        np.testing.assert_allclose(updates, [lam, -lam], rtol=1e-6)


def test_multi_steps_applies_the_penalty_once_per_round():
    chain = optax.MultiSteps(optax.chain(rv.rvsm(rv.L1(), 0.1, 1.0), optax.sgd(1.0)), every_k_schedule=2)
    w = jnp.array([1.0, 0.05])
    state, update = chain.init(w), jax.jit(chain.update)
    first, state = update(jnp.array([0.2, 0.0]), state, w)
    second, state = update(jnp.array([0.4, 0.0]), state, w)
    assert first.tolist() == [0, 0]
    np.testing.assert_allclose(second, [-0.4, -0.05], rtol=1e-6)
    np.testing.assert_allclose(rv.sparse_params(state, w), [0.9, 0.0], rtol=1e-6)


def test_vmap_over_lam_beta_and_a():
    w, lams, betas, shapes = map(jnp.array, ([1.0, 0.3, -0.2], [0.01, 0.1], [0.5, 2.0], [0.1, 1.0]))

    def update(lam, beta, a):
        tx = rv.rvsm(rv.TransformedL1(a), lam, beta)
        return tx.update(0 * w, tx.init(w), w)[0]

    together = jax.jit(jax.vmap(update))(lams, betas, shapes)
    for got, lam, beta, a in zip(together, lams, betas, shapes, strict=True):
        want = beta * (w - transformed(np.asarray(w, "f8"), float(lam / beta), float(a)))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_errors():
    tx = rv.rvsm(rv.L1(), 0.1, 1.0)
    with pytest.raises(ValueError, match=r"^params must be passed to update: rvsm adds beta \* \(params - u\)$"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    for dtype in ("int32", "bool"):
        message = f"^params must be floating-point .*, got {dtype} at block/0/kernel$"
        with pytest.raises(TypeError, match=message):
            tx.init({"block": [{"kernel": np.ones((2, 2), dtype)}], "bias": jnp.ones(2)})
    with pytest.raises(TypeError, match=r"got complex64 at kernel$"):  # by default it is skipped
        rv.rvsm(rv.L1(), 0.1, 1.0, mask=True).init({"kernel": np.ones((2, 2), "complex64")})
    with pytest.raises(TypeError, match=r"got int32 at count$"):
        rv.rvsm(rv.L1(), 0.1, 1.0, mask=True).init({"count": 3})
    tx.init({"kernel": jnp.ones((2, 2)), "steps": jnp.ones(2, int)})
