"""admm compared with a handwritten iteration; exact projection counts; invalid input."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv

LAM, RATE, STEPS = 0.05, 0.2, 11
START, TARGET = np.random.default_rng(5).normal(size=(2, 10))


def soft(v, s):
    return np.sign(v) * np.maximum(np.abs(v) - s, 0)


def largest(v, s):
    """H_4 by a stable sort."""
    kept = np.zeros(v.size, bool)
    kept[np.argsort(-np.abs(v).ravel(), kind="stable")[:4]] = True
    return np.where(kept.reshape(v.shape), v, 0)


PENALTIES = {"l1": (rv.L1(), soft), "projection": (rv.TopK(k=4), largest)}
NUMBERS = {
    "numbers": (0.7, LAM),
    "schedules": (lambda count: 0.3 + 0.05 * count, lambda count: 0.02 + 0.01 * count),
}


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("dual_every", [1, 3])
@pytest.mark.parametrize("kind", PENALTIES)
def test_the_chain_is_the_algorithm(kind, dual_every, numbers, x64):
    (penalty, prox), (rho, lam) = PENALTIES[kind], NUMBERS[numbers]
    chain = optax.chain(rv.admm(penalty, rho, lam, dual_every), optax.sgd(RATE))

    def step(carry, _):
        w, state = carry
        updates, state = chain.update(w - TARGET, state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), (w, state[0].u, state[0].z, rv.sparse_params(state, w))

    start = jnp.asarray(START)
    got = jax.jit(lambda w: jax.lax.scan(step, (w, chain.init(w)), length=STEPS)[1])(start)
    at = lambda number, t: number(t) if callable(number) else number  # noqa: E731
    w, z, u = START, np.zeros(10), prox(START, at(lam, 0) / at(rho, 0))
    for t, (got_w, got_u, got_z, got_sparse) in enumerate(zip(*got, strict=True)):
        r, s = at(rho, t), at(lam, t) / at(rho, t)
        if t in range(dual_every, STEPS, dual_every):
            u = prox(w + z, s)
            z = z + w - u
        w = w - RATE * (w - TARGET + r * (w - u + z))
        for have, want in [(got_w, w), (got_u, u), (got_z, z), (got_sparse, prox(w + z, s))]:
            np.testing.assert_allclose(have, want, rtol=0, atol=1e-12)
    assert np.abs(z).max() > 0.05


def test_the_limit_is_a_stationary_point_of_the_lasso(x64):
    """min ½‖w − target‖² + λ‖w‖₁ is solved by the soft threshold of the target, and w = u there."""
    tx = optax.chain(rv.admm(rv.L1(), 0.5, 0.3, dual_every=2), optax.sgd(0.5))
    start = jnp.asarray(START)

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(w - TARGET, state, w)
        return (optax.apply_updates(w, updates), state), None

    (w, state), _ = jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), length=400))(start)
    np.testing.assert_allclose(w, soft(TARGET, 0.3), atol=1e-9)
    np.testing.assert_allclose(rv.sparse_params(state, w), soft(TARGET, 0.3), atol=1e-9)


@pytest.mark.parametrize("scope", ["leaf", "global"])
def test_the_projection_count_is_exact_and_ties_go_to_the_first(scope):
    rng = np.random.default_rng(6)
    params = {"a": rng.integers(-2, 3, (4, 5)), "b": rng.integers(-2, 3, (5, 4))}
    params = jax.tree.map(jnp.float32, params)
    state = rv.admm(rv.TopK(k=4, scope=scope), 0.5).init(params)
    u = jax.tree.map(np.asarray, rv.sparse_params(state, params))
    if scope == "leaf":
        want = {key: largest(np.asarray(leaf), 0) for key, leaf in params.items()}
    else:
        both = largest(np.concatenate([np.ravel(params["a"]), np.ravel(params["b"])]), 0)
        want = {"a": both[:20].reshape(4, 5), "b": both[20:].reshape(5, 4)}
    for key in params:
        np.testing.assert_array_equal(u[key], want[key])
        np.testing.assert_array_equal(state.u[key], want[key])


def test_sparse_params_projects_w_plus_z_and_keeps_other_leaves():
    params = {"kernel": jnp.array([[3.0, -1.0, 2.0]]), "bias": jnp.array([0.1])}
    state = rv.admm(rv.TopK(k=1), 0.5).init(params)
    state = state._replace(z=state.z | {"kernel": jnp.array([[0.0, -5.0, 0.0]])})
    u = rv.sparse_params(state, params)
    assert u["kernel"].tolist() == [[0, -6, 0]]
    assert u["bias"] is params["bias"]


def test_errors():
    for name, value, rule in itertools.chain(
        (("rho", x, "finite and > 0") for x in (0, -1.0, np.nan, np.inf)),
        (("lam", x, "finite and >= 0") for x in (-1, np.nan)),
        (("dual_every", x, "a whole number >= 1") for x in (0, -1, 1.5)),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be {rule}, got "):
            rv.admm(rv.L1(), **({"rho": 0.5} | {name: value}))
    with pytest.raises(TypeError, match=r"^penalty must be an instance of Penalty, got 'l1'$"):
        rv.admm("l1", 0.5)
    tx = rv.admm(rv.L1(), 0.5)
    with pytest.raises(ValueError, match=r"^params must be passed to update: admm adds rho \* \(params - u \+ z\)$"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    with pytest.raises(TypeError, match=r"got int32 at block/0/kernel$"):
        tx.init({"block": [{"kernel": jnp.ones((2, 2), int)}]})
    with pytest.raises(ValueError, match=r"it differs at: b, c$"):
        rv.admm(rv.L1(), 0.5, mask={"a": True, "c": True}).init({"a": jnp.ones(2), "b": jnp.ones(2)})
