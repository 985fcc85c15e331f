"""Metrics of rvsm, sparsify and admm: where they come from, λ that follows a sparsity, errors."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv

SHAPES = {"a": (12, 40), "b": (40, 25), "bias": (25,)}
STACK = {"^a$": "stack ...", "^b$": "in out"}


def tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(scale * rng.normal(size=shape), "float32") for name, shape in SHAPES.items()}


def fisher(seed, scale=1.0):
    """Entries that differ by up to ten thousandfold."""
    return jax.tree.map(lambda x: scale * jnp.exp(4.6 * jnp.tanh(x)), tree(seed))


def ones(params):
    return jax.tree.map(jnp.ones_like, params)


def flat(tree):
    return np.concatenate([np.ravel(tree[name]).astype("float64") for name in "ab"])


def same(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def train(tx, params, steps=4, **extra):
    update, state = jax.jit(tx.update), tx.init(params)
    for step in range(steps):
        updates, state = update(tree(step + 100), state, params, **extra)
        params = optax.apply_updates(params, updates)
    return params, state


ROWS = {
    "rvsm l0": partial(rv.rvsm, rv.L0(), 0.05, 0.3),
    "rvsm l1": partial(rv.rvsm, rv.L1(), 0.05, 0.3),
    "rvsm top k": partial(rv.rvsm, rv.TopK(k=30, scope="global"), beta=0.3, update_every=2),
    "rvsm share": partial(rv.rvsm, rv.L0(), beta=0.3, sparsity=0.7, scope="leaf", certificate=True),
    "admm": partial(rv.admm, rv.NM(2, 4, axis=0), 0.3, mask="^a$"),
    "admm groups": partial(rv.admm, rv.Grouped(rv.L0(), "filters"), 0.3, 1.0),
    "sparsify": partial(rv.sparsify, optax.adam(0.1), 0.7, steps=6),
    "sparsify by leaf": partial(rv.sparsify, optax.sgd(0.1), 0.7, steps=6, scope="leaf", layout=STACK),
}
LIKE_OTHERS = ("rvsm l1", "admm groups", "sparsify by leaf")
"""Rows in the slow tests."""


every = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LIKE_OTHERS)) for name in ROWS]
)


@every
def test_ones_are_the_identity_and_other_numbers_are_not(name):
    (plain, state), (unit, of_ones) = train(ROWS[name](), tree(0)), train(ROWS[name](metric=ones), tree(0))
    same(unit, plain)
    same(of_ones._replace(metric=None), state)
    assert not np.array_equal(flat(train(ROWS[name](metric=fisher(1)), tree(0))[0]), flat(plain))


@every
def test_a_small_leaf_stands_for_its_broadcast(name):
    small = {"a": fisher(1)["a"][:, :1], "b": np.float64(2.0) + np.arange(25), "bias": None}
    whole = {"a": jnp.broadcast_to(small["a"], (12, 40)), "b": jnp.broadcast_to(small["b"], (40, 25)), "bias": None}
    params, state = train(ROWS[name](metric=small), tree(0))
    assert state.metric["a"].shape == (12, 1)
    np.testing.assert_allclose(flat(params), flat(train(ROWS[name](metric=whole), tree(0))[0]), rtol=1e-5, atol=1e-6)


@every
def test_update_replaces_the_numbers(name):
    """With the same metric from the first update on, params agree; init differs in u of admm and update_every."""
    tx = ROWS[name](metric=ones)
    params, state = train(tx, tree(0), metric={"a": fisher(1)["a"], "b": fisher(1)["b"], "bias": None})
    want, fixed = train(ROWS[name](metric=fisher(1)), tree(0))
    same(state.metric, fixed.metric)
    if not name.startswith("admm"):
        same(params, want)
        same(rv.sparse_params(state, params), rv.sparse_params(fixed, want))
    kept = tx.update(tree(9), state, params)[1]
    same(kept.metric, state.metric)


PENALTIES = {
    "l1": (rv.L1(), lambda v, m: m * np.abs(v)),
    "l0": (rv.L0(), lambda v, m: m * v**2),
    "tl1": (rv.TransformedL1(0.7), None),
    "tl1 sharp": (rv.TransformedL1(1e-3), None),
    "group l0": (rv.Grouped(rv.L0(), "rows"), None),
    "group l1": (rv.Grouped(rv.L1(), "rows"), None),
}


@functools.partial(jax.jit, static_argnames="scope")
def held(penalty, params, metric, sparsity, scope="global"):
    state = rv.rvsm(penalty, beta=0.3, sparsity=sparsity, scope=scope, metric=metric).init(params)
    return rv.sparse_params(state, params), state.rules[0].lam


@pytest.mark.parametrize("name", PENALTIES)
def test_u_has_the_sparsity_at_any_scale(name):
    penalty, rank = PENALTIES[name]
    size, room = 12 * 40 + 40 * 25, 40 if name.startswith("group") else 1
    for scale, share in ((1e-5, 0.5), (1.0, 0.9), (1e4, 0.98), (1.0, 0.0)):
        params, metric = tree(0, scale), fisher(1, 1 / scale)
        if name == "group l1":
            metric = jax.tree.map(lambda m: m[:, :1] if m.ndim == 2 else m, metric)
        u, _ = held(penalty, params, metric, share)
        assert abs(np.sum(flat(u) == 0) - round(share * size)) < room
        if rank and share:
            ranks = rank(flat(params), flat(metric))
            assert np.max(ranks[flat(u) == 0]) <= np.min(ranks[flat(u) != 0]) * (1 + 1e-5)


@pytest.mark.parametrize("name", PENALTIES)
def test_the_lam_as_a_number_gives_the_same_and_a_smaller_one_fewer_zeros(name):
    penalty, params, metric = PENALTIES[name][0], tree(1), fisher(2)
    if name == "group l1":
        metric = jax.tree.map(lambda m: m[:, :1] if m.ndim == 2 else m, metric)
    u, lam = held(penalty, params, metric, 0.8)
    by_hand, less = (
        rv.sparse_params(rv.rvsm(penalty, factor * lam, 0.3, metric=metric).init(params), params)
        for factor in (1, 0.95)
    )
    np.testing.assert_allclose(flat(by_hand), flat(u), rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(flat(by_hand) == 0, flat(u) == 0)
    assert np.sum(flat(less) == 0) < np.sum(flat(u) == 0)


def test_each_leaf_has_the_sparsity_on_request():
    u, lams = held(rv.TransformedL1(), tree(2), fisher(3), 0.6, "leaf")
    assert lams.shape == (2,)
    assert [int(jnp.sum(u[name] == 0)) for name in "ab"] == [288, 600]


def test_vmap_over_metrics():
    metrics = [fisher(seed) for seed in range(3)]
    one = lambda metric: held(rv.L0(), tree(0), metric, 0.7)[0]  # noqa: E731
    together = jax.vmap(one)(jax.tree.map(lambda *ms: jnp.stack(ms), *metrics))
    for i, metric in enumerate(metrics):
        same(jax.tree.map(lambda leaf, i=i: leaf[i], together), one(metric))


MOMENTS = partial(rv.sparsify, optax.adam(0.01), rv.cubic_sparsity(0.8, 0, 4), steps=100, metric="second_moment")


def test_second_moments_of_adam_decide_what_stays():
    params, state = train(MOMENTS(), tree(0), steps=8)
    nu, w = state.inner_state[0].nu, jax.tree.map(lambda u, r: u + r, flat(params), flat(state.residual))
    scores = flat(nu) * w**2
    assert np.sum(flat(params) == 0) == round(0.8 * 1480)
    assert np.max(scores[flat(params) == 0]) <= np.min(scores[flat(params) != 0]) * (1 + 1e-5)
    assert state.metric is None


def test_second_moments_without_gradients_are_equal_and_survive_a_frozen_leaf():
    still, none = (
        rv.sparsify(optax.adam(0.1), lambda _: 0.7, steps=4, floor=0, metric=m) for m in ("second_moment", None)
    )
    zeros = jax.tree.map(jnp.zeros_like, tree(0))
    same(still.update(zeros, still.init(tree(0)), tree(0))[0], none.update(zeros, none.init(tree(0)), tree(0))[0])
    state, params = still.init(tree(0)), tree(0)
    for _ in range(4):
        updates, state = still.update(tree(1) | {"a": zeros["a"]}, state, params)
        params = optax.apply_updates(params, updates)
    assert np.all(np.isfinite(flat(params)))
    assert np.all(params["a"] == 0)
    assert np.sum(flat(params) == 0) == round(0.7 * 1480)


def test_second_moments_do_not_depend_on_the_scale_of_gradients_for_a_fixed_lam():
    tx = rv.sparsify(
        optax.adam(0.01, eps=0.0), 0.5, steps=50, metric="second_moment", overrides={"a": {"penalty": rv.NM(2, 4)}}
    )
    runs = []
    for scale in (1.0, 1e-6):
        params, state = tree(0), tx.init(tree(0))
        for step in range(5):
            updates, state = tx.update(tree(step + 5, scale), state, params)
            params = optax.apply_updates(params, updates)
        runs.append(flat(params))
    np.testing.assert_allclose(runs[1], runs[0], rtol=1e-4, atol=1e-5)


def adam(**more):
    return partial(rv.sparsify, optax.adam(0.1), 0.5, steps=4, **more)


CASES = {
    "negative": (
        lambda: rv.rvsm(rv.L1(), 0.1, 1.0, metric=fisher(0) | {"a": -np.ones(40)}),
        "finite and > 0, got -1.0 at a",
    ),
    "nan": (
        lambda: rv.admm(rv.L1(), 0.1, metric=fisher(0) | {"b": np.full(25, np.nan)}),
        "finite and > 0, got nan at b",
    ),
    "shape": (
        lambda: adam(metric=fisher(0) | {"a": np.ones(12)})(),
        r"broadcast to shape \(12, 40\), got shape \(12,\) at a",
    ),
    "structure": (lambda: rv.rvsm(rv.L1(), 0.1, 1.0, metric={"a": np.ones(40)}), "structure of params, .* b, bias$"),
    "text": (lambda: rv.rvsm(rv.L1(), 0.1, 1.0, metric="second_moment"), "structure of params, got 'second_moment'"),
    "word": (lambda: adam(metric="nu")(), "one of second_moment, got 'nu'"),
    "no moment": (
        lambda: rv.sparsify(optax.sgd(0.1), 0.5, steps=4, metric="second_moment"),
        "one second moment nu .*got 0",
    ),
    "moment of others": (
        lambda: rv.sparsify(optax.contrib.muon(0.1), 0.5, steps=4, metric="second_moment"),
        "second moment for each selected leaf, got none at a$",
    ),
    "two moments": (
        lambda: rv.sparsify(optax.chain(optax.adam(0.1), optax.rmsprop(1.0)), 0.5, steps=4, metric="second_moment"),
        "one second moment nu .*got 2",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values_that_do_not_fit(name):
    make, rest = CASES[name]
    with pytest.raises(ValueError, match=f"^metric .*must .*{rest}"):
        make().init(tree(0))


def test_types_that_do_not_fit():
    with pytest.raises(TypeError, match=r"^metric must hold arrays of numbers > 0, got 'x' at a$"):
        rv.rvsm(rv.L1(), 0.1, 1.0, metric=fisher(0) | {"a": "x"}).init(tree(0))
    with pytest.raises(TypeError, match=r"^metric must be constant in each group for L1"):
        rv.rvsm(rv.Grouped(rv.L1(), "filters"), 0.1, 1.0, metric=fisher(0)).init(tree(0))
    with pytest.raises(TypeError, match=r"^metric must be constant in each group for TransformedL1"):
        adam(penalty=rv.Grouped(rv.TransformedL1(), "filters"), metric="second_moment")().init(tree(0))
    for tx in (rv.rvsm(rv.L1(), 0.1, 1.0), rv.admm(rv.L1(), 0.1), adam()()):
        with pytest.raises(TypeError, match=r"^metric must be declared before update takes one"):
            tx.update(tree(1), tx.init(tree(0)), tree(0), metric=fisher(0))
    tx = rv.rvsm(rv.L1(), 0.1, 1.0, metric={"a": np.ones((12, 1)), "b": None, "bias": None})
    with pytest.raises(ValueError, match=r"^metric must broadcast to shape \(12, 1\), got shape \(12, 40\) at a$"):
        tx.update(tree(1), tx.init(tree(0)), tree(0), metric=fisher(0))


def test_solve_takes_none():
    tx = optax.chain(rv.rvsm(rv.L1(), 1e-4, 4e-3, metric=jnp.ones(2)), optax.sgd(0.25), rv.unit_sphere())
    with pytest.raises(ValueError, match=r"^metric must be None in the rvsm of solve"):
        rv.solve(rv.NoOverlapReLU(2), tx, jnp.array([1.0, 0.0]), jnp.array([0.6, 0.8]))
