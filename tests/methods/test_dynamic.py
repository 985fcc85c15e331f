"""RigL and SET compared with loops in NumPy: every weight, every count, what grows, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.methods import rigl, sparse_evolution
from rvsmjax.methods.dynamic.densities import live_counts

RATE, MOMENTUM, STEPS, EVERY = 0.05, 0.9, 40, 4
SHAPES = {"a": (6, 8), "b": (8, 4)}
BOTH = pytest.mark.parametrize("make", [rigl, sparse_evolution])


def quadratic(seed=0):
    """Returns the first weights, and curvature and minimum of a quadratic function, by name."""
    rng = np.random.default_rng(seed)
    draw = lambda: {name: rng.normal(size=shape).astype("f4") for name, shape in SHAPES.items()}  # noqa: E731
    return draw(), {name: np.abs(leaf) + np.float32(0.2) for name, leaf in draw().items()}, draw()


def run(tx, steps=STEPS, problem=None):
    w, curvature, best = problem or quadratic()
    params, state, update = w, tx.init(w), jax.jit(tx.update)
    for _ in range(steps):
        grads = jax.tree.map(lambda h, p, b: h * (np.asarray(p) - b), curvature, params, best)
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        yield jax.tree.map(np.asarray, params), grads, state


def largest(scores, k):
    """Returns a mask of the k largest, the first of equal ones."""
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores.ravel(), kind="stable")[:k]] = True
    return mask.reshape(scores.shape)


@pytest.mark.parametrize("distribution", ["erk", "uniform"])
def test_rigl_against_a_loop(distribution):
    tx = rigl(
        optax.sgd(RATE, MOMENTUM), 0.7, steps=STEPS, every=EVERY, fraction=0.4, distribution=distribution, mask=True
    )
    w, _, _ = quadratic()
    live = jax.tree.map(np.asarray, tx.init(w).support)
    counts = dict(zip(SHAPES, live_counts(list(SHAPES.values()), 0.7, distribution), strict=True))
    memory = jax.tree.map(np.zeros_like, w)
    changes = []
    for step, (params, grads, state) in enumerate(run(tx)):
        for name in SHAPES:
            memory[name] = MOMENTUM * memory[name] + np.where(live[name], grads[name], 0)
            moved = w[name] - np.float32(RATE) * memory[name]
            old = live[name]
            if step and step % EVERY == 0 and step < 0.75 * STEPS:
                k = round(counts[name] * 0.2 * (1 + np.cos(np.pi * step / (0.75 * STEPS))))
                kept = largest(np.where(old, np.abs(moved), -1), counts[name] - k)
                live[name] = kept | largest(np.where(kept, -1, np.abs(grads[name])), k)
                memory[name] = np.where(live[name] & ~old, 0, memory[name])
                changes.append((step, (live[name] & ~old).sum()))
            w[name] = np.where(old & live[name], moved, 0)
            np.testing.assert_array_equal(state.support[name], live[name])
            np.testing.assert_allclose(params[name], w[name], rtol=2e-5, atol=1e-7)
            np.testing.assert_allclose(state.inner_state[0].trace[name], memory[name], rtol=2e-5, atol=1e-6)
            assert live[name].sum() == counts[name]
            assert not params[name][~live[name]].any()
    assert {step for step, _ in changes} == set(range(EVERY, 30, EVERY))
    assert sum(number for _, number in changes) > 10


@BOTH
def test_exact_counts_and_a_seed(make):
    def supports(seed):
        tx = make(optax.adam(0.05), 0.8, steps=STEPS, every=3, fraction=1.0, seed=seed, mask=True)
        return [np.concatenate([np.ravel(leaf) for leaf in state.support.values()]) for *_, state in run(tx, 20)]

    found = supports(0)
    assert {mask.sum() for mask in found} == {80 - 64}
    assert all((a == b).all() for a, b in zip(found, supports(0), strict=True))
    assert (found[0] != supports(1)[0]).any()
    assert (found[-1] != found[0]).any()


def test_a_weight_that_is_zero_may_be_live():
    """With weights and gradients of 0, too, a leaf keeps its live weights, and what it drops was live."""
    w = np.ones((4, 8), "f4")
    tx = rigl(optax.sgd(0.1), 0.5, steps=1000, every=1, fraction=0.5)
    state, update, params = tx.init(w), jax.jit(tx.update), w
    for step in range(6):
        before = np.asarray(state.support)
        updates, state = update(np.zeros_like(w), state, params)
        params = np.asarray(optax.apply_updates(params, updates))
        now = np.asarray(state.support)
        assert now.sum() == 16
        assert (now & before).sum() >= 8
        assert not params[~now].any()
        assert not params[now & ~before].any()
        if step:
            params = np.zeros_like(params)
    assert (now != np.asarray(tx.init(w).support)).any()


def test_grown_entries_of_adam_are_those_of_init():
    tx = rigl(optax.adam(0.05), 0.5, steps=400, every=5, fraction=1.0, mask=True)
    before = None
    for step, (_, _, state) in enumerate(run(tx, 11)):
        adam = state.inner_state[0]
        if step in (5, 10):
            for name in SHAPES:
                fresh = np.asarray(state.support[name]) & ~np.asarray(before.support[name])
                old = np.asarray(state.support[name]) & np.asarray(before.support[name])
                assert fresh.any()
                assert not np.asarray(adam.mu[name])[fresh].any()
                assert not np.asarray(adam.nu[name])[fresh].any()
                assert np.asarray(adam.nu[name])[old].all()
        before = state
    assert int(adam.count) == 11


@pytest.mark.parametrize(
    "inner",
    [
        optax.adagrad(0.1),
        optax.contrib.muon(0.1),
        optax.adafactor(0.1),
        optax.contrib.schedule_free_sgd(0.1),
        optax.MultiSteps(optax.sgd(0.1), 2),
        optax.inject_hyperparams(optax.adamw)(learning_rate=0.1),
        optax.masked(optax.sgd(0.1, 0.9), {"a": True, "b": False}),
        optax.chain(optax.clip_by_global_norm(1.0), optax.lion(0.01)),
    ],
)
def test_any_optimizer(inner):
    tx = rigl(inner, 0.75, steps=40, every=2, mask=True)
    for params, _, state in run(tx, 6):
        assert sum(np.sum(leaf) for leaf in state.support.values()) == 20
        assert all(np.isfinite(leaf).all() for leaf in params.values())
        assert sum(np.count_nonzero(leaf) for leaf in params.values()) <= 20


def test_sparse_evolution_grows_at_random():
    """Over many seeds each free weight grows equally often; what is dropped is the smallest."""
    w, grads = np.arange(1, 33, dtype="f4").reshape(4, 8), np.zeros((4, 8), "f4")

    def changes(seed):
        tx = sparse_evolution(optax.sgd(0.1), 0.5, steps=10**6, every=1, fraction=0.25, seed=seed)
        state = tx.init(w)
        first = state.support
        params = w * first
        for _ in range(2):
            _, state = tx.update(grads, state, params)
        return first, state.support

    first, last = map(np.asarray, jax.jit(jax.vmap(changes))(np.arange(2000)))
    assert (first.sum((1, 2)) == 16).all()
    assert (last.sum((1, 2)) == 16).all()
    assert np.abs(first.mean(0) - 0.5).max() < 0.06  # five standard errors
    smallest = np.array([largest(np.where(live, -w, -99), 4) for live in first])
    free = ~first | smallest
    grown = last & free
    assert (grown.sum((1, 2)) == 4).all()
    assert ((last | smallest) >= first).all()
    share = grown.sum(0) / free.sum(0)
    np.testing.assert_allclose(share, 4 / 20, atol=5 * np.sqrt(0.2 * 0.8 / free.sum(0).min()))


def test_slices_of_a_stack_have_counts_of_their_own():
    w = {"layers": np.random.default_rng(0).normal(size=(3, 8, 4)).astype("f4")}
    tx = rigl(optax.sgd(0.1), 0.75, steps=40, every=1, mask=True, layout={"layers": "stack in out"})
    state, update = tx.init(w), jax.jit(tx.update)
    for seed in range(5):
        grads = {"layers": np.random.default_rng(seed).normal(size=(3, 8, 4)).astype("f4")}
        _, state = update(grads, state, w)
        assert np.asarray(state.support["layers"]).sum((1, 2)).tolist() == [8, 8, 8]


def test_axes_of_heads_count_as_one():
    """A (16, 2·4) and a (3·8, 4) matrix: densities by their sums of inputs and outputs."""
    w = {"query": jnp.ones((16, 2, 4)), "out": jnp.ones((3, 8, 4))}
    tx = rigl(optax.sgd(0.1), 0.5, steps=40, mask=True, layout={"query": "in head out", "out": "in_head in out"})
    got = [int(np.sum(tx.init(w).support[name])) for name in w]
    assert got == live_counts([(16, 8), (24, 4)], 0.5)
    assert got != live_counts([(16, 2, 4), (3, 8, 4)], 0.5)


@BOTH
def test_the_report_of_sparsity(make):
    tx = make(optax.sgd(0.1), 0.7, steps=STEPS, mask=True)
    *_, (params, _, state) = run(tx, 2)
    assert rv.sparse_params(state, params) is params
    numbers = rv.scalars(state, params)
    assert sorted(numbers) == ["sparsity", "sparsity/a", "sparsity/b"]
    assert float(numbers["sparsity"]) == pytest.approx(56 / 80)


@BOTH
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sparsity": 1.0}, r"^sparsity must be in \[0, 1\), got 1.0$"),
        ({"steps": 0}, r"^steps must be a whole number >= 1, got 0$"),
        ({"every": 0}, r"^every must be a whole number >= 1, got 0$"),
        ({"fraction": 1.5}, r"^fraction must be in \[0, 1\], got 1.5$"),
        ({"seed": -1}, r"^seed must be a whole number >= 0, got -1$"),
        ({"distribution": "erdos"}, r"^distribution must be one of erk, uniform, got 'erdos'$"),
    ],
)
def test_errors(make, given, message):
    with pytest.raises(ValueError, match=message):
        make(optax.sgd(0.1), **{"sparsity": 0.5, "steps": 10} | given)
    with pytest.raises(TypeError, match=r"^sparsity must be known before tracing"):
        jax.jit(lambda sparsity: make(optax.sgd(0.1), sparsity, steps=10).init(jnp.ones((2, 2))))(0.5)
