"""elsa compared with a handwritten iteration with an unscaled dual; what it stores; invalid input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.methods import elsa

RATE, EVERY, STEPS, KEPT = 0.05, 3, 20, 5
RNG = np.random.default_rng(8)
START, TARGET = RNG.normal(size=(2, 4, 5))
CURVATURE = RNG.uniform(0.1, 4, size=(4, 5))
SCHEDULES = {"constant": lambda t: 0.6, "rising": lambda t: 0.2 + 0.05 * t, "from zero": lambda t: 0.04 * t}


def slope(w):
    return CURVATURE * (w - TARGET)


def project(x, v):
    """The 5 components with the largest v·x² stay; by magnitude as long as there is no v."""
    scores = np.abs(x) * np.sqrt(np.where(np.any(v > 0), v, 1))
    kept = np.zeros(x.size, bool)
    kept[np.argsort(-scores.ravel(), kind="stable")[:KEPT]] = True
    return np.where(kept.reshape(x.shape), x, 0)


def run(tx, start=START, steps=STEPS):
    def step(carry, _):
        w, state = carry
        updates, state = tx.update(slope(w), state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), (w, rv.sparse_params(state, w))

    start = jnp.asarray(start)
    return jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), length=steps))(start)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_iteration_with_an_unscaled_dual(kind, x64):
    """With y = ρz: g + ρ(w − u) + y; u = argmin Σv(u − w − y/ρ)², y ← y + ρ(w − u) after each third step."""
    schedule = SCHEDULES[kind]
    rho = 0.6 if kind == "constant" else schedule
    tx = elsa(optax.adam(RATE, 0.8, 0.9, 1e-3), 0.75, rho, every=EVERY, state_dtype=None)
    (_, state), (ws, us) = run(tx)
    w, m, v = START, np.zeros((4, 5)), np.zeros((4, 5))
    u, y, now = project(START, v), np.zeros((4, 5)), schedule(0)
    for t in range(STEPS):
        if t and t % EVERY == 0:
            now = schedule(t)
            u = project(w + y / now, v)
            y = y + now * (w - u)
        g = slope(w) + now * (w - u) + y
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        w = w - RATE * (m / (1 - 0.8 ** (t + 1))) / (np.sqrt(v / (1 - 0.9 ** (t + 1))) + 1e-3)
        np.testing.assert_allclose(ws[t], w, rtol=0, atol=1e-11)
        if now > 0:
            np.testing.assert_allclose(us[t], project(w + y / now, v), rtol=0, atol=1e-11)
    assert np.abs(y).max() > 0.05
    assert np.any(project(w, v) != project(w, np.ones_like(v)))  # the metric decides
    np.testing.assert_allclose(state.rho, now)


def test_the_states_take_half_the_memory_and_the_metric_none():
    w = jnp.asarray(START, jnp.float32)
    state = elsa(optax.adam(RATE), 0.75, 0.5).init(w)
    arrays = [leaf for leaf in jax.tree.leaves(state) if leaf.size == w.size]
    assert sorted(str(leaf.dtype) for leaf in arrays) == ["bfloat16", "bfloat16", "float32", "float32"]
    (after, state), (_, us) = run(elsa(optax.adam(RATE), 0.75, 0.5, every=EVERY), w)
    assert state.admm.metric is None
    assert np.all(np.sum(np.asarray(us) != 0, axis=(1, 2)) == KEPT)
    (want, _), _ = run(elsa(optax.adam(RATE), 0.75, 0.5, every=EVERY, state_dtype=None), w)
    np.testing.assert_allclose(after, want, atol=0.05)
    assert np.any(after != want)


def test_scope_overrides_and_logged_numbers():
    params = {"a": jnp.asarray(START), "b": 10 * jnp.asarray(TARGET), "c": jnp.asarray(START[:, :4])}
    params = jax.tree.map(jnp.float32, params)
    given = {"overrides": {"c": {"penalty": rv.NM(2, 4)}}}
    counts = {}
    for scope in ("leaf", "global"):
        tx = elsa(optax.adam(RATE), 0.5, 0.5, scope=scope, **given)
        _, state = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
        counts[scope] = {key: int(jnp.sum(u != 0)) for key, u in rv.sparse_params(state, params).items()}
        assert float(rv.scalars(state, params)["rho"]) == 0.5
    assert counts["leaf"] == {"a": 10, "b": 10, "c": 8}
    assert counts["global"]["a"] + counts["global"]["b"] == 20
    assert counts["global"]["b"] > 15


def test_errors():
    adam = optax.adam(0.1)
    for name, value, rule in (
        ("rho", 0, "finite and > 0"),
        ("every", 0, "a whole number >= 1"),
        ("sparsity", 1.0, r"in \[0, 1\)"),
        ("scope", "all", "one of leaf, global"),
        ("state_dtype", "float16", "None, bfloat16 or float32"),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be {rule}, got '?{value}'?$"):
            elsa(adam, **({"sparsity": 0.5, "rho": 0.1} | {name: value}))
    for optimizer, number in ((optax.sgd(0.1), 0), (optax.chain(adam, optax.rmsprop(1.0)), 2)):
        with pytest.raises(ValueError, match=rf"^metric 'second_moment' must find one .*, got {number}$"):
            elsa(optimizer, 0.5, 0.1).init(jnp.ones(4))
    with pytest.raises(TypeError, match=r"^metric must be constant in each group for L1"):
        elsa(adam, 0.5, 0.1, mask=True, overrides={"": {"penalty": rv.Grouped(rv.L1(), "rows")}}).init(jnp.ones((2, 2)))
    tx = elsa(adam, 0.5, 0.1)
    with pytest.raises(ValueError, match=r"^params must be passed to update: elsa"):
        tx.update(jnp.ones(4), tx.init(jnp.ones(4)))
