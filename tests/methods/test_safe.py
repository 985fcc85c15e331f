"""safe compared with a handwritten iteration in the order of the source; where it takes gradients; invalid input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.methods import safe

RHO, RADIUS, RATE, EVERY, STEPS = 0.4, 0.3, 0.1, 3, 17
RNG = np.random.default_rng(6)
START = {"kernel": RNG.normal(size=(3, 5)), "bias": RNG.normal(size=4)}
TARGET = {"kernel": RNG.normal(size=(3, 5)), "bias": RNG.normal(size=4)}
WEIGHTS = RNG.uniform(0.1, 3, size=(3, 5))


def loss(params, _=0):
    return sum(jnp.sum(jnp.cosh(params[key] - TARGET[key])) for key in TARGET)


def slopes(params):
    return {key: np.sinh(params[key] - TARGET[key]) for key in TARGET}


def largest(v, scores):
    kept = np.zeros(v.size, bool)
    kept[np.argsort(-scores.ravel(), kind="stable")[:6]] = True
    return np.where(kept.reshape(v.shape), v, 0)


def ascended(params):
    g = slopes(params)
    norm = np.sqrt(sum(np.sum(x**2) for x in g.values()))
    return {key: params[key] + RADIUS * g[key] / norm for key in g}


def run(tx, steps=STEPS):
    grad_fn = jax.grad(loss)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(grad_fn(params), state, params, grad_fn=grad_fn)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, rv.sparse_params(state, params))

    start = jax.tree.map(jnp.asarray, START)
    return jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), length=steps))(start)


@pytest.mark.parametrize("rising", [False, True])
@pytest.mark.parametrize("plus", [False, True])
def test_the_iteration_of_the_source(plus, rising, x64):
    """Here u and z change after each third step, there before the next one: the same w."""
    metric = {"kernel": WEIGHTS, "bias": None} if plus else None
    given = {"radius": RADIUS, "dual_every": EVERY, "metric": metric, "steps": 12 if rising else None}
    tx = safe(optax.sgd(RATE, momentum=0.8), rv.TopK(k=6), RHO, **given)
    (_, state), (ws, us) = run(tx)

    def project(v):
        return largest(v, np.abs(v) * (np.sqrt(WEIGHTS) if plus else 1))

    w, m = dict(START), {key: np.zeros_like(x) for key, x in START.items()}
    u, z = project(w["kernel"]), np.zeros((3, 5))
    for t in range(STEPS):
        rho = RHO * (1 - np.cos(np.pi * min((t + 1) / 12, 1))) / 2 if rising else RHO
        g = slopes(ascended(w))
        g["kernel"] = g["kernel"] + rho * (w["kernel"] - u + z)
        m = {key: 0.8 * m[key] + g[key] for key in g}
        w = {key: w[key] - RATE * m[key] for key in g}
        np.testing.assert_allclose(us["kernel"][t], project(w["kernel"] + z), rtol=0, atol=1e-12)
        if t % EVERY == EVERY - 1:
            u = project(w["kernel"] + z)
            z = z + w["kernel"] - u
        for key in w:
            np.testing.assert_allclose(ws[key][t], w[key], rtol=0, atol=1e-12)
    assert np.all(np.sum(np.asarray(us["kernel"]) != 0, axis=(1, 2)) == 6)
    assert np.abs(z).max() > 0.05
    assert isinstance(state[0], rv.transforms.ADMMState)


def test_a_radius_of_zero_is_admm():
    (params, _), _ = run(safe(optax.adam(0.05), rv.L1(), RHO, lam=0.2, radius=0.0, dual_every=2))
    chain = optax.chain(rv.admm(rv.L1(), RHO, 0.2, 2), optax.adam(0.05))
    want = jax.tree.map(jnp.asarray, START)
    state = chain.init(want)
    for _ in range(STEPS):
        updates, state = chain.update(jax.grad(loss)(want), state, want)
        want = optax.apply_updates(want, updates)
    for key in START:
        np.testing.assert_allclose(params[key], want[key], rtol=1e-5, atol=1e-6)


def test_the_other_point_lies_at_the_radius():
    """The gradient of sinh at the other point tells where it was."""
    seen = []
    tx = safe(optax.sgd(RATE), rv.TopK(k=6), RHO, radius=0.25)
    params = jax.tree.map(jnp.asarray, START)

    def grad_fn(other, index):
        seen.append((other, index))
        return jax.grad(loss)(other)

    tx.update(jax.grad(loss)(params), tx.init(params), params, grad_fn=grad_fn)
    ((other, index),) = seen
    moved = np.concatenate([np.ravel(other[key] - params[key]) for key in params])
    gradient = np.concatenate([np.ravel(slopes(START)[key]) for key in params])
    assert index == 0
    np.testing.assert_allclose(np.linalg.norm(moved), 0.25, rtol=1e-5)
    np.testing.assert_allclose(moved, 0.25 * gradient / np.linalg.norm(gradient), atol=1e-6)


def test_a_gradient_of_zero_and_frozen_leaves():
    params = {"kernel": jnp.ones((2, 2)), "frozen": None}
    tx = safe(optax.sgd(0.1), rv.TopK(k=1), 0.5, mask=True)
    zero = {"kernel": jnp.zeros((2, 2)), "frozen": None}
    updates, _ = tx.update(zero, tx.init(params), params, grad_fn=lambda other, _: jax.tree.map(lambda x: 0 * x, other))
    np.testing.assert_allclose(updates["kernel"], [[0, -0.05], [-0.05, -0.05]], rtol=1e-6)


def test_errors():
    sgd, top = optax.sgd(0.1), rv.TopK(k=1)
    for name, value, rule in (
        ("radius", -0.1, "finite and >= 0"),
        ("rho", 0, "finite and > 0"),
        ("dual_every", 0, "a whole number >= 1"),
        ("steps", 0, "a whole number >= 1"),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be {rule}, got {value}$"):
            safe(sgd, top, **({"rho": 0.1} | {name: value}))
    with pytest.raises(ValueError, match=r"^rho must be finite and > 0, got -1$"):
        safe(sgd, top, -1, steps=5)
    with pytest.raises(TypeError, match=r"^steps must be None if rho is a schedule"):
        safe(sgd, top, lambda count: 0.1, steps=5)
    tx, w = safe(sgd, top, 0.1), jnp.ones(2)
    with pytest.raises(ValueError, match=r"^params must be passed to update: safe"):
        tx.update(w, tx.init(w), grad_fn=lambda w, _: w)
    with pytest.raises(TypeError, match=r"^grad_fn must be passed to update: .* got None$"):
        tx.update(w, tx.init(w), w)
