"""The numbers of a training log compared with NumPy, in every wrapper; counts of 2³¹ and more."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import rvsmjax as rv
from rvsmjax import _exact

W = {
    "conv": {"kernel": jnp.array([[1.0, 0.01], [-0.02, -3.0]]), "bias": jnp.array([0.01, 5.0])},
    "head": {"kernel": jnp.array([[0.5, -0.001]])},
}
GRADS = jax.tree.map(jnp.cos, W)
RVSM = rv.rvsm(rv.L1(), lam=0.005, beta=0.25)  # the threshold is 0.02
SGD = optax.sgd(0.1)
WRAPPERS = {
    "alone": RVSM,
    "chain": optax.chain(optax.clip(1.0), optax.chain(RVSM, SGD)),
    "multi steps": optax.MultiSteps(optax.chain(RVSM, SGD), every_k_schedule=2),
    "masked": optax.masked(RVSM, {"conv": True, "head": True}),
    "inject": optax.chain(optax.inject_hyperparams(rv.rvsm)(rv.L1(), lam=0.005, beta=0.25), SGD),
    "if finite": optax.apply_if_finite(optax.chain(RVSM, SGD), 3),
}
NAMES = ["sparsity", "sparsity/conv/kernel", "sparsity/head/kernel", "gap", "lam", "beta"]


def kernels(tree):
    return [np.asarray(tree[part]["kernel"], np.float64) for part in ("conv", "head")]


def gap(w, u):
    return np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(w, u, strict=True)) / sum(np.sum(a**2) for a in w))


def train(tx, steps, w=W):
    state, update = tx.init(w), jax.jit(tx.update)
    for _ in range(steps):
        updates, state = update(GRADS, state, w)
        w = optax.apply_updates(w, updates)
    return state, w


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("tx", WRAPPERS.values(), ids=WRAPPERS)
def test_rvsm_in_wrappers(tx, steps):
    state, w = train(tx, steps)
    values = kernels(w)
    u = [np.sign(x) * np.maximum(np.abs(x) - 0.02, 0) for x in values]
    zeros = [np.sum(x == 0) for x in u]
    want = [sum(zeros) / 6, zeros[0] / 4, zeros[1] / 2, gap(values, u), 0.005, 0.25]
    got = jax.jit(rv.scalars)(state, w)
    assert sorted(got) == sorted(NAMES)
    np.testing.assert_allclose([got[name] for name in NAMES], want, rtol=1e-5)
    assert all(x.shape == () for x in got.values())
    if steps == 0:
        assert want[:3] == [0.5, 0.5, 0.5]


def test_the_number_of_a_masked_half():
    tx = optax.masked(RVSM, {"conv": False, "head": True})
    numbers = rv.scalars(tx.init(W), W)
    assert sorted(numbers) == ["beta", "gap", "lam", "sparsity", "sparsity/head/kernel"]
    np.testing.assert_allclose(numbers["gap"], gap([np.array([0.5, -0.001])], [np.array([0.48, 0])]), rtol=1e-5)


def test_admm_is_at_w_plus_its_dual_variable():
    state, w = train(optax.chain(rv.admm(rv.L0(), rho=0.5, lam=0.01), SGD), 4)
    z = state[0].z
    u = [np.where(np.abs(a + b) > 0.2, a + b, 0) for a, b in zip(kernels(w), kernels(z), strict=True)]
    numbers = rv.scalars(state, w)
    assert list(numbers) == [*NAMES[:5], "rho"]
    np.testing.assert_allclose(numbers["gap"], gap(kernels(w), u), rtol=1e-5)
    np.testing.assert_allclose([numbers["lam"], numbers["rho"]], [0.01, 0.5])
    np.testing.assert_allclose(numbers["sparsity"], sum(np.sum(x == 0) for x in u) / 6)


@pytest.mark.parametrize("steps", [0, 5, 8])
def test_the_parameters_of_sparsify_are_u(steps):
    pull = optax.linear_schedule(0.0, 0.5, 10)
    state, u = train(rv.sparsify(SGD, 0.5, steps=10, pull=pull, freeze=7), steps)
    rest = kernels(state.residual)
    numbers = rv.scalars(state, u)
    assert list(numbers) == [*NAMES[:5], "pull"]
    np.testing.assert_allclose(numbers["gap"], gap([a + b for a, b in zip(kernels(u), rest, strict=True)], kernels(u)))
    np.testing.assert_allclose(numbers["sparsity"], sum(np.sum(x == 0) for x in kernels(u)) / 6)
    np.testing.assert_allclose(numbers["pull"], {0: 0.0, 5: 4 * 0.05, 8: 1.0}[steps])
    assert (numbers["gap"] > 0) == (steps == 5)


def test_each_rule_in_use_has_its_lam():
    rules = {"nothing": None, "head": {"lam": 0.5}, "bias": {"penalty": rv.TopK(k=1)}}
    with pytest.raises(ValueError, match="never applies"):
        rv.rvsm(rv.L0(), 0.1, 1.0, overrides=rules).init(W)
    del rules["nothing"]
    numbers = rv.scalars(rv.rvsm(rv.L0(), 0.1, 1.0, True, overrides=rules).init(W), W)
    assert {name: round(float(x), 6) for name, x in numbers.items() if name.startswith("lam")} == {
        "lam/0": 0.1,
        "lam/1": 0.5,  # a constraint has no λ
    }
    assert "sparsity/conv/bias" in numbers


def test_mean_and_range_of_one_lam_per_leaf():
    tx = rv.rvsm(rv.L1(), beta=0.5, sparsity=0.5, scope="leaf")
    state = tx.init(W)
    numbers = rv.scalars(state, W)
    want = np.array([0.02, 0.001]) * 0.5  # the smaller half of each leaf reaches the threshold λ/β
    got = [numbers[f"lam/{name}"] for name in ("mean", "min", "max")]
    np.testing.assert_allclose(got, [want.mean(), want.min(), want.max()], rtol=1e-5)


def test_changes_of_the_support():
    tx = rv.rvsm(rv.L0(), 0.005, 1.0, certificate=True)  # the threshold is 0.1
    _, state = tx.update(GRADS, tx.init(W), W)
    assert int(rv.scalars(state, W)["support_changes"]) == 0
    moved = jax.tree.map(lambda leaf: leaf + 0.2, W)
    _, state = tx.update(GRADS, state, moved)
    assert int(rv.scalars(state, moved)["support_changes"]) == 3


def test_several_splittings_have_their_own_names():
    parts = {"a": optax.chain(RVSM, SGD), "b": rv.admm(rv.TopK(k=1), rho=0.5)}
    tx = optax.partition(parts, {"conv": "a", "head": "b"})
    numbers = rv.scalars(tx.init(W), W)
    assert sorted(numbers) == sorted(
        [*NAMES[:3], "rvsm_0/gap", "rvsm_0/lam", "rvsm_0/beta", "admm_1/gap", "admm_1/rho"]
    )
    with pytest.raises(ValueError, match="one splitting transformation per leaf, got two at 'conv/kernel'"):
        rv.scalars(optax.chain(RVSM, RVSM).init(W), W)
    with pytest.raises(ValueError, match=r"^opt_state must hold the state of a splitting"):
        rv.scalars(SGD.init(W), W)


def test_a_bare_array_has_no_path_and_zeros_no_gap():
    assert sorted(rv.scalars(RVSM.init(jnp.ones(3)), jnp.ones(3))) == ["beta", "gap", "lam", "sparsity"]
    numbers = rv.scalars(RVSM.init(jnp.zeros(3)), jnp.zeros(3))
    assert (float(numbers["sparsity"]), float(numbers["gap"])) == (1.0, 0.0)


def test_lanes_of_a_vmap():
    ws = jax.tree.map(lambda leaf: jnp.stack([leaf, 3 * leaf]), W)
    together = jax.jit(jax.vmap(rv.scalars))(jax.vmap(RVSM.init)(ws), ws)
    for lane in (0, 1):
        w = jax.tree.map(lambda leaf, lane=lane: leaf[lane], ws)
        alone = rv.scalars(RVSM.init(w), w)
        for name, number in alone.items():
            np.testing.assert_allclose(together[name][lane], number, rtol=1e-6)


@pytest.mark.parametrize("tx", [RVSM, rv.admm(rv.L1(), 0.25, 0.005), rv.sparsify(SGD, 0.5, steps=4)])
def test_bfloat16_parameters_are_measured_in_float32(tx):
    w = jax.tree.map(lambda leaf: jnp.tile(leaf, (64, 64)).astype("bfloat16") if leaf.ndim > 1 else leaf, W)
    state = tx.init(w)
    numbers, u = rv.scalars(state, w), rv.sparse_params(state, w)
    assert {x.dtype for x in numbers.values()} == {np.dtype("float32")}
    np.testing.assert_allclose(numbers["gap"], gap(kernels(w), kernels(u)), rtol=1e-5)


def test_an_nnx_optimizer():
    model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.chain(RVSM, SGD), wrt=nnx.Param)
    state, params = optimizer.opt_state, nnx.state(model, nnx.Param)
    numbers = rv.scalars(state, params)
    assert sorted(numbers) == ["beta", "gap", "lam", "sparsity", "sparsity/kernel"]
    plain = nnx.to_pure_dict(params)
    assert float(numbers["gap"]) == float(rv.scalars(optax.chain(RVSM, SGD).init(plain), plain)["gap"])


def test_counts_in_two_words(monkeypatch):
    rng = np.random.default_rng(0)
    masks = [rng.random(shape) < 0.3 for shape in ((40, 30), (7,), (), (0, 3), (2, 3, 4, 5))]
    count = lambda masks: _exact.count([jnp.asarray(mask) for mask in masks])  # noqa: E731
    want = sum(int(mask.sum()) for mask in masks)
    assert (count(masks).dtype, int(count(masks))) == (np.dtype("int32"), want)
    monkeypatch.setattr(_exact, "LARGEST", -1)
    assert (count(masks).dtype, int(count(masks))) == (np.dtype("float32"), want)
    assert int(count([])) == 0
    lanes = jax.vmap(lambda mask: _exact.count([mask]))(jnp.asarray(masks[0]))
    np.testing.assert_array_equal(lanes, masks[0].sum(1))


def test_the_low_word_carries():
    x, y = 3 * 2**32 + 2**32 - 5, 7 * 2**32 + 9
    words = [tuple(jnp.uint32(part) for part in divmod(number, 2**32)) for number in (x, y)]
    high, low = _exact._add(*words)
    assert int(high) * 2**32 + int(low) == x + y


def test_sizes_beyond_int32():
    """Without arrays: fractions are floats, the sizes are exact."""
    shape = jax.ShapeDtypeStruct((2**17, 2**16), "bfloat16")
    total = jax.eval_shape(lambda tree: rv.sparsity(tree).total[::2], {"kernel": shape, "other": shape})
    assert [x.dtype for x in total] == ["float32", "float32"]


@pytest.mark.slow
def test_four_billion_zeros_are_counted():
    def total(start):  # zeros but for the first row of each leaf, made as they are counted
        rows = start + jax.lax.broadcasted_iota("int32", (2**16, 2**15), 0)
        return rv.sparsity({"a": rows < 1, "b": rows < 1}, mask=True).total[::2]

    zeros, fraction = jax.jit(total)(jnp.int32(0))
    assert int(zeros) == np.float32(2**32 - 2**16)
    assert float(fraction) == np.float32(1 - 2**-16)
