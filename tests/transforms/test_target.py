"""λ that follows a sparsity: the fraction of zeros in u is the one asked for, whatever the penalty and the scale."""

import functools
import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv

PENALTIES = {
    "l1": rv.L1(),
    "l0": rv.L0(),
    "tl1": rv.TransformedL1(0.7),
    "tl1 sharp": rv.TransformedL1(1e-3),
    "group l1": rv.Grouped(rv.L1(), "filters"),
    "group l0": rv.Grouped(rv.L0(), "rows"),
}
SCALES = (1e-6, 1e-2, 1.0, 1e4)


def tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    shapes = {"a": (12, 40), "b": (40, 25), "c": (3, 3, 5, 8)}
    return {name: {"kernel": jnp.asarray(scale * rng.normal(size=shape), "float32")} for name, shape in shapes.items()}


def group_sizes(penalty, params):
    axis = {"filters": -1, "rows": -2}.get(getattr(penalty, "axes", None))
    return [1 if axis is None else x.size // x.shape[axis] for x in jax.tree.leaves(params)]


@functools.partial(jax.jit, static_argnames="scope")
def held(penalty, params, sparsity, scope="global"):
    """u and λ of rvsm with a sparsity."""
    state = rv.rvsm(penalty, beta=0.3, sparsity=sparsity, scope=scope).init(params)
    return rv.sparse_params(state, params), state.rules[0].lam


@jax.jit
def fixed(penalty, params, lam):
    return rv.sparse_params(rv.rvsm(penalty, lam, 0.3).init(params), params)


def zeros(u):
    return sum(int(np.sum(np.asarray(leaf, "float32") == 0)) for leaf in jax.tree.leaves(u))


@pytest.mark.parametrize("name", PENALTIES)
def test_u_has_the_sparsity_at_any_scale(name):
    penalty, size = PENALTIES[name], sum(x.size for x in jax.tree.leaves(tree(0)))
    for scale, sparsity in itertools.product(SCALES, (0.0, 0.5, 0.9, 0.98)):
        params = tree(0, scale)
        u, _ = held(penalty, params, sparsity)
        assert abs(zeros(u) - round(sparsity * size)) < max(group_sizes(penalty, params))


@pytest.mark.parametrize("name", PENALTIES)
def test_the_lam_as_a_number_gives_the_same_and_a_smaller_one_fewer_zeros(name):
    penalty, params = PENALTIES[name], tree(1)
    u, lam = held(penalty, params, 0.8)
    by_hand = fixed(penalty, params, lam)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), u, by_hand)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a == 0, b == 0), u, by_hand)
    assert zeros(fixed(penalty, params, 0.95 * lam)) < zeros(u)


def test_each_leaf_has_the_sparsity_on_request():
    params = tree(2)
    params["a"]["kernel"] *= 100
    together, _ = held(rv.L1(), params, 0.6)
    each, _ = held(rv.L1(), params, 0.6, "leaf")
    assert zeros(together["a"]) < 10
    for leaf in jax.tree.leaves(each):
        assert zeros(leaf) == round(0.6 * leaf.size)


def test_groups_of_several_sizes_come_as_close_as_possible():
    """Groups become zero in the order of their norms: brute force over all cuts of that order."""
    params, penalty = tree(3), rv.Grouped(rv.L0(), "filters")
    norms = [np.linalg.norm(np.asarray(x).reshape(-1, x.shape[-1]), axis=0) for x in jax.tree.leaves(params)]
    sizes = group_sizes(penalty, params)
    scores = np.concatenate(norms)
    weights = np.concatenate([np.full(len(n), s) for n, s in zip(norms, sizes, strict=True)])
    reached = np.cumsum(weights[np.argsort(scores)])
    for sparsity in (0.3, 0.77, 0.9):
        need = round(sparsity * weights.sum())
        assert abs(zeros(held(penalty, params, sparsity)[0]) - need) == np.abs(reached - need).min()


def test_the_sparsity_holds_in_every_step_of_a_training():
    params, rising = tree(4), rv.cubic_sparsity(0.9, 0, 10)
    tx = optax.chain(rv.rvsm(rv.TransformedL1(), beta=0.5, sparsity=rising), optax.adam(0.05))
    size = sum(x.size for x in jax.tree.leaves(params))

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.tree.map(lambda w: w - 0.3, params), state, params)
        return optax.apply_updates(params, updates), state

    state, sparse = tx.init(params), jax.jit(rv.sparse_params)
    for count in range(15):
        params, state = step(params, state)
        u = sparse(state, params)
        assert abs(zeros(u) - float(rising(count)) * size) <= 1


def test_equal_magnitudes_and_zeros():
    """With ties at the threshold u has at least the sparsity; components that are zero count."""
    w = {"kernel": jnp.array([[0.0, 0, 0, 0, 1, 1, 1, 1, 2, 2]])}
    for sparsity, count in ((0.0, 4), (0.2, 4), (0.4, 4), (0.5, 8), (0.8, 8), (0.9, 10)):
        for penalty in (rv.L0(), rv.L1()):
            assert zeros(held(penalty, w, sparsity)[0]) == count


def test_overrides_have_sparsities_of_their_own():
    params = tree(5)
    tx = rv.rvsm(
        rv.L1(),
        beta=1.0,
        sparsity=0.5,
        overrides={"a": {"sparsity": 0.9}, "b": {"lam": 0.0}, "c": {"penalty": rv.TopK(k=7)}},
    )
    u = rv.sparse_params(tx.init(params), params)
    counts = {name: int(jnp.sum(leaf["kernel"] != 0)) for name, leaf in u.items()}
    assert counts == {"a": 48, "b": 1000, "c": 7}


def test_float64_and_bfloat16(x64):
    for dtype, scope in itertools.product(("float64", "bfloat16"), ("global", "leaf")):
        params = jax.tree.map(lambda x, dtype=dtype: x.astype(dtype), tree(6))
        u, _ = held(rv.L1(), params, 0.7, scope)
        fraction = zeros(u) / sum(x.size for x in jax.tree.leaves(params))
        assert 0.7 - 1e-3 <= fraction <= (0.701 if dtype == "float64" else 0.72)


def test_errors():
    w = jnp.ones(3)
    cases = [
        (lambda: rv.rvsm(rv.L1(), 0.1, 1.0, sparsity=0.5), TypeError, r"^sparsity must be None if lam is given, got"),
        (
            lambda: rv.rvsm(rv.TopK(k=1), beta=1.0, sparsity=0.5),
            TypeError,
            r"^sparsity must be given to the constraint",
        ),
        (lambda: rv.rvsm(rv.L1(), beta=1.0, sparsity=1.0), ValueError, r"^sparsity must be .*got 1.0"),
        (lambda: rv.rvsm(rv.L1(), beta=1.0, sparsity=-0.1), ValueError, r"^sparsity must be .*got -0.1"),
        (lambda: rv.rvsm(rv.L1(), beta=1.0, sparsity=0.5, scope="all"), ValueError, r"^scope must be .*got 'all'"),
    ]
    for make, kind, message in cases:
        with pytest.raises(kind, match=message):
            make().init(w)


@pytest.mark.parametrize(("large", "held"), [(10**7, 10), (500, 100)])
def test_lam_is_solved_for_less_often_with_many_components(large, held, monkeypatch):
    monkeypatch.setattr(sys.modules["rvsmjax.transforms.rvsm"], "LARGE", large)
    tx, params = rv.rvsm(rv.L0(), sparsity=0.7, beta=1.0), jnp.linspace(1.0, 2.0, 600).reshape(20, 30)
    state, update, found = tx.init(params), jax.jit(tx.update), []
    for _ in range(120):
        _, state = update(jnp.zeros_like(params), state, params)
        params = params * 1.01
        found.append(float(state.rules[0].lam))
    assert [i for i in range(1, 120) if found[i] != found[i - 1]] == list(range(held, 120, held))


def test_lam_is_held_between_its_solutions():
    """In the steps between, the threshold λ/β stays, also where β changes; ``sparse_params`` solves for λ itself."""
    beta = optax.linear_schedule(0.1, 0.2, 10)
    tx = rv.rvsm(rv.L0(), sparsity=0.7, beta=beta, solve_every=3)
    params = jnp.asarray(np.random.default_rng(0).normal(size=(20, 30)), "float32")
    state, steps = tx.init(params), []
    for i in range(7):
        _, state = tx.update(jnp.zeros_like(params), state, params)
        steps.append(float(state.rules[0].lam / state.beta))
        assert abs(float(jnp.mean(rv.sparse_params(state, params) == 0)) - 0.7) < 1 / 600
        params = params * (1.1 + 0.01 * i)
    assert len({round(step, 5) for step in steps[:3]}) == 1 == len({round(step, 5) for step in steps[3:6]})
    assert steps[0] < 0.9 * steps[3] < 0.9 * steps[6]
