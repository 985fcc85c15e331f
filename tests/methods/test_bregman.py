"""bregman compared with handwritten iterations; when weights join; the sparse start; invalid input."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.methods import bregman, sparse_start

LAM, DELTA, RATE, STEPS = 1.5, 0.5, 0.2, 12
RNG = np.random.default_rng(3)
TARGET = RNG.normal(size=(4, 6))
STARTS = {"dense": RNG.normal(size=(4, 6))}
STARTS["sparse"] = np.where(RNG.random((4, 6)) < 0.5, 0, STARTS["dense"]) * [1, 0, 1, 0, 1, 1]


HESSIAN = np.eye(6) + 0.3 * (np.eye(6, k=1) + np.eye(6, k=-1))


def slope(w):
    return (w - TARGET) @ HESSIAN


def soft(v, s):
    return np.sign(v) * np.maximum(np.abs(v) - s, 0)


def soft_columns(v, s):
    norms = np.sqrt(np.sum(v**2, axis=0))
    return v * np.maximum(1 - s / np.where(norms > 0, norms, 1), 0)


def directions(w):
    norms = np.sqrt(np.sum(w**2, axis=0))
    return w / np.where(norms > 0, norms, 1)


PENALTIES = {
    "l1": (rv.L1(), soft, np.sign),
    "groups": (rv.Grouped(rv.L1(), axes=(0,)), soft_columns, directions),
}


def run(tx, start, steps=STEPS):
    def step(carry, _):
        w, state = carry
        updates, state = tx.update(slope(w), state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), (w, state.subgradient)

    start = jnp.asarray(start)
    return jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), length=steps)[1])(start)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize("start", STARTS)
def test_linbreg_with_the_momentum_of_the_source(start, kind, momentum, x64):
    """There m holds the step size, and η is that of optax.sgd over 1 − μ."""
    penalty, prox, signs = PENALTIES[kind]
    tx = bregman(optax.sgd((1 - momentum) * RATE, momentum or None), penalty, LAM, delta=DELTA)
    got = run(tx, STARTS[start])
    w = STARTS[start]
    v, m = w / DELTA + LAM * signs(w), np.zeros_like(w)
    for got_w, got_v in zip(*got, strict=True):
        m = momentum * m + (1 - momentum) * RATE * slope(w)
        v = v - m
        w = prox(DELTA * v, DELTA * LAM)
        np.testing.assert_allclose(got_v, v, rtol=0, atol=1e-12)
        np.testing.assert_allclose(got_w, w, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(got_w == 0, w == 0)
    if start == "sparse":
        assert np.sum(np.any(got[0] == 0, axis=0) & (w != 0)) > 0  # some have joined


def test_adabreg(x64):
    tx = bregman(optax.adam(0.1, 0.8, 0.95, 1e-3), rv.L1(), lambda count: LAM + 0.01 * count, delta=DELTA)
    got = run(tx, STARTS["sparse"])
    w = STARTS["sparse"]
    v, m, s = w / DELTA + LAM * np.sign(w), np.zeros_like(w), np.zeros_like(w)
    for t, (got_w, got_v) in enumerate(zip(*got, strict=True)):
        g = slope(w)
        m, s = 0.8 * m + 0.2 * g, 0.95 * s + 0.05 * g**2
        v = v - 0.1 * (m / (1 - 0.8 ** (t + 1))) / (np.sqrt(s / (1 - 0.95 ** (t + 1))) + 1e-3)
        w = soft(DELTA * v, DELTA * (LAM + 0.01 * t))
        np.testing.assert_allclose(got_v, v, rtol=0, atol=1e-12)
        np.testing.assert_allclose(got_w, w, rtol=0, atol=1e-12)
    assert 0 < np.sum(w == 0) < w.size


def test_weights_join_when_the_sum_of_their_gradients_exceeds_lam():
    """While θᵢ is zero its gradient is −targetᵢ: it joins in the first step n with n·η|targetᵢ| > λ, largest first."""
    target = np.array([2.0, -1.0, 0.5, 0.26, -0.1], np.float32)
    tx = bregman(optax.sgd(0.25), rv.L1(), lam=1.0)
    w = jnp.zeros(5)
    state, joined = tx.init(w), np.zeros(5, int)
    for n in range(1, 25):
        updates, state = tx.update(w - target, state, w)
        w = optax.apply_updates(w, updates)
        joined[(joined == 0) & (np.asarray(w) != 0)] = n
    np.testing.assert_array_equal(joined, [3, 5, 9, 16, 0])
    np.testing.assert_allclose(w[:2], target[:2], atol=0.01)
    assert rv.sparse_params(state, w) is w


@pytest.mark.parametrize(
    ("penalty", "kept"),
    [
        (rv.L1(), lambda w: w),
        (rv.Grouped(rv.L1(), axes=(0,)), lambda w: w),
        (rv.TransformedL1(2.0), lambda w: np.where(np.abs(w) > 0.5, w, np.nan)),
        (rv.L0(), lambda w: np.where(np.abs(w) > np.sqrt(2 * 0.3 * DELTA), w, 0)),
        (rv.TopK(k=3), lambda w: np.where(np.abs(w) >= np.sort(np.abs(w).ravel())[-3], w, 0)),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_the_first_prox_returns_the_parameters(penalty, kept):
    w = jnp.asarray(STARTS["sparse"], jnp.float32).at[:, 2].set(0)
    tx = bregman(optax.sgd(0.1), penalty, 0.3, delta=DELTA)
    updates, _ = tx.update(jnp.zeros_like(w), tx.init(w), w)
    want = kept(np.asarray(w))
    sure = np.isfinite(want)
    assert np.sum(sure & (want != 0)) >= 3
    np.testing.assert_allclose((w + updates)[sure], want[sure], rtol=2e-6)
    assert np.all((w + updates)[:, 2] == 0)


@dataclasses.dataclass(frozen=True)
class Root(rv.Penalty):
    """Σ√|x|, whose slope at 0 is infinite."""

    def value(self, x):
        return jnp.sum(jnp.sqrt(jnp.abs(x)))

    def prox(self, v, step):
        return v


def test_zero_components_start_without_a_subgradient():
    state = bregman(optax.sgd(0.1), Root(), 0.5).init(jnp.array([4.0, 0.0, -1.0]))
    assert state.subgradient.tolist() == [4.125, 0.0, -1.25]


def test_parameters_in_bfloat16_lose_no_step():
    """A hundred steps of a tenth of a unit in the last place."""
    w, tx = jnp.ones(1, jnp.bfloat16), bregman(optax.sgd(1.0), rv.L1(), lam=0.5)
    state = tx.init(w)
    for _ in range(100):
        updates, state = tx.update(jnp.full(1, -1e-3, jnp.bfloat16), state, w)
        w = optax.apply_updates(w, updates)
    assert w.dtype == jnp.bfloat16
    assert state.subgradient.dtype == jnp.float32
    assert abs(float(w[0]) - 1.1) < 0.01


def test_other_leaves_follow_the_optimizer():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    tx = bregman(optax.sgd(0.5), rv.L1(), 0.1)
    updates, state = tx.update(params, tx.init(params), params)
    assert updates["bias"].tolist() == [-0.5, -0.5]
    assert isinstance(state.subgradient["bias"], optax.MaskedNode)


def test_the_sparse_start_keeps_the_variance():
    params = {"kernel": jnp.asarray(RNG.normal(size=(400, 500)), jnp.float32), "bias": jnp.ones(3)}
    w = sparse_start(params, 0.04, jax.random.key(1))
    assert w["bias"] is params["bias"]
    kept = np.asarray(w["kernel"]) != 0
    size = kept.size
    assert abs(kept.sum() - 0.04 * size) < 4 * np.sqrt(size * 0.04 * 0.96)
    np.testing.assert_allclose(w["kernel"][kept], 5 * np.asarray(params["kernel"])[kept], rtol=1e-6)
    assert abs(np.mean(np.square(w["kernel"])) - 1) < 4 * np.sqrt(3 / 0.04 / size)
    again = sparse_start(params, 0.04, jax.random.key(2))["kernel"]
    assert np.mean((np.asarray(again) != 0) & kept) < 0.01
    np.testing.assert_array_equal(sparse_start(params, 1.0, jax.random.key(1))["kernel"], params["kernel"])


def test_the_sparse_start_draws_leaves_independently():
    w = sparse_start({"a": jnp.ones((30, 30)), "b": jnp.ones((30, 30))}, 0.5, jax.random.key(0))
    assert np.any(np.asarray(w["a"]) != np.asarray(w["b"]))


def test_errors():
    for name, value in (("lam", -1), ("lam", np.nan), ("delta", 0), ("delta", np.inf)):
        with pytest.raises(ValueError, match=f"^{name} must be finite and >=? 0, got {value}$"):
            bregman(optax.sgd(0.1), rv.L1(), **({"lam": 1.0} | {name: value}))
    with pytest.raises(TypeError, match=r"^lam must be given"):
        bregman(optax.sgd(0.1), rv.L1())
    with pytest.raises(TypeError, match=r"^penalty must be an instance of Penalty, got 'l1'$"):
        bregman(optax.sgd(0.1), "l1", 0.1)
    tx = bregman(optax.sgd(0.1), rv.L1(), 0.1)
    with pytest.raises(ValueError, match=r"^params must be passed to update: bregman"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    for share in (0, -0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"^share must be "):
            sparse_start(jnp.ones(2), share, jax.random.key(0))
