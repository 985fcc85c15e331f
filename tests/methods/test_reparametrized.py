"""STR compared with the iteration in NumPy, whose gradients are finite differences; thresholds of slices; errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.methods import soft_threshold_reparametrization

RATE, DECAY = 0.05, 0.2
SHAPES = {"a": (6, 4), "b": (3, 5)}


def weights(v, s):
    return np.sign(v) * np.maximum(np.abs(v) - 1 / (1 + np.exp(-s)), 0)


def problem():
    rng = np.random.default_rng(2)
    draw = lambda: {name: rng.normal(size=shape) for name, shape in SHAPES.items()}  # noqa: E731
    return draw(), draw()


def slope(function, x, step=1e-6):
    """Returns the derivative of a function of one array by central differences."""
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[i] = step
        found[i] = (function(x + e) - function(x - e)) / (2 * step)
    return found


def run(tx, steps, params, best):
    params, update = jax.tree.map(lambda p: jnp.asarray(p, "float32"), params), jax.jit(tx.update)
    state = tx.init(params)
    for _ in range(steps):
        grads = jax.tree.map(lambda p, b: p - jnp.asarray(b, "float32"), params, best)
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        yield jax.tree.map(np.asarray, params), state


def test_against_finite_differences():
    """Gradient descent with momentum on v and s of ½‖w(v, s) − b‖² + ½λs² + 0.05(‖v‖² + s²), in float64."""
    v, best = problem()
    s, memory = {"a": np.array(-1.5), "b": np.array(-1.5)}, {"a": [0.0, 0.0], "b": [0.0, 0.0]}
    optimizer = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(RATE, 0.8))
    tx = soft_threshold_reparametrization(optimizer, DECAY, initial=-1.5, mask=True)
    for step, (params, state) in enumerate(run(tx, 25, v, best)):
        for i, name in enumerate(SHAPES):
            at = v[name] if step == 0 else weights(v[name], s[name])  # first the gradient is that at v
            pull = at - best[name]
            by_v = slope(lambda x, name=name, pull=pull: np.sum(pull * weights(x, s[name])), v[name])
            by_s = slope(lambda x, name=name, pull=pull: np.sum(pull * weights(v[name], x)), s[name])
            slopes = by_v + 0.1 * v[name], by_s + (DECAY + 0.1) * s[name]
            memory[name] = [0.8 * m + g for m, g in zip(memory[name], slopes, strict=True)]
            v[name], s[name] = v[name] - RATE * memory[name][0], s[name] - RATE * memory[name][1]
            np.testing.assert_allclose(params[name], weights(v[name], s[name]), rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(state.v[name], v[name], rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(state.s[i], s[name], rtol=1e-4, atol=1e-5)
            assert ((params[name] == 0) == (weights(v[name], s[name]) == 0)).all()
    assert {int(np.sum(leaf == 0)) for leaf in params.values()} != {0}


def test_the_decay_raises_the_threshold():
    v, best = problem()

    def zeros(decay):
        tx = soft_threshold_reparametrization(optax.sgd(RATE), decay, initial=-6.0, mask=True)
        *_, (params, state) = run(tx, 100, v, best)
        assert rv.sparse_params(state, params) is params
        return float(rv.scalars(state, params)["sparsity"])

    found = [zeros(decay) for decay in (0.0, 0.5, 2.0)]
    assert found == sorted(found)
    assert found[2] > found[0]


def test_without_a_gradient_s_decays_alone():
    """The paper's first s, −3,200: the threshold is 0, and so is its derivative."""
    w, tx = jnp.ones((2, 2)), soft_threshold_reparametrization(optax.sgd(0.1), 0.5, initial=-3200.0)
    state, update = tx.init(w), jax.jit(tx.update)
    for _ in range(3):
        updates, state = update(jnp.ones((2, 2)), state, w)
        w = optax.apply_updates(w, updates)
    np.testing.assert_allclose(state.s, [-3200 * 0.95**3], rtol=1e-6)
    np.testing.assert_allclose(w, np.full((2, 2), 0.7), rtol=1e-6)


def test_slices_have_thresholds_of_their_own_and_another_optimizer_moves_them():
    v = np.random.default_rng(0).normal(size=(4, 2, 3))
    best = np.zeros_like(v)
    thresholds = optax.sgd(1.0)
    tx = soft_threshold_reparametrization(
        optax.sgd(RATE), 0.0, initial=-1.0, thresholds=thresholds, layout={"": "in stack out"}, mask=True
    )
    *_, (params, state) = run(tx, 3, v, best)
    assert state.s.shape == (2,)
    for i in range(2):
        alone = soft_threshold_reparametrization(optax.sgd(RATE), 0.0, initial=-1.0, thresholds=thresholds, mask=True)
        *_, (part, own) = run(alone, 3, v[:, i], best[:, i])
        np.testing.assert_allclose(params[:, i], part, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(state.s[i], own.s[0], rtol=1e-5)


def test_parameters_and_state_can_be_donated_together():
    tx = soft_threshold_reparametrization(optax.sgd(0.1))
    w = jnp.ones((2, 2))
    state = tx.init(w)
    step = jax.jit(lambda g, s, p: tx.update(g, s, p), donate_argnums=(1, 2))
    updates, _ = step(jnp.ones((2, 2)), state, w)
    assert np.isfinite(np.asarray(updates)).all()


def test_errors():
    params = {"a": {"kernel": jnp.ones((2, 2))}, "b": {"kernel": jnp.ones((2, 2))}}
    optimizer = optax.partition({"slow": optax.sgd(0.1), "fast": optax.sgd(1.0)}, {"a": "slow", "b": "fast"})
    with pytest.raises(TypeError, match=r"^thresholds must be given beside an optimizer that .*, got None$"):
        rv.methods.soft_threshold_reparametrization(optimizer).init(params)
    tx = rv.methods.soft_threshold_reparametrization(optimizer, thresholds=optax.sgd(0.1))
    assert jax.tree.leaves(tx.update(params, tx.init(params), params)[0])[0].shape == (2, 2)
    with pytest.raises(ValueError, match=r"^decay must be finite and >= 0, got -0.1$"):
        soft_threshold_reparametrization(optax.sgd(0.1), -0.1)
