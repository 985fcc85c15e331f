"""sparse_params extracts u from any optimizer state; sparsity counts zeros."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv

PARAMS = {
    "conv": {"kernel": jnp.array([[1.0, 0.01], [-0.02, -3.0]]), "bias": jnp.array([0.01, 5.0])},
    "head": {"kernel": jnp.array([[0.5, -0.001]])},
}
RVSM = rv.rvsm(rv.L0(), lam=0.005, beta=1.0)  # the threshold is 0.1
U = {
    "conv": {"kernel": jnp.array([[1.0, 0.0], [0.0, -3.0]]), "bias": jnp.array([0.01, 5.0])},
    "head": {"kernel": jnp.array([[0.5, 0.0]])},
}


def equal(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)


CHAINS = {
    "alone": RVSM,
    "chain": optax.chain(RVSM, optax.sgd(0.1)),
    "chain in a chain": optax.chain(optax.clip(1.0), optax.chain(optax.adam(0.1), optax.chain(RVSM))),
    "multi steps": optax.MultiSteps(optax.chain(RVSM, optax.sgd(0.1, 0.9)), every_k_schedule=2),
    "inject": optax.inject_hyperparams(rv.rvsm)(rv.L0(), lam=0.005, beta=1.0),
    "if finite": optax.apply_if_finite(optax.chain(RVSM, optax.sgd(0.1)), 3),
    "named chain": optax.chain(optax.named_chain(("sparse", RVSM), ("step", optax.sgd(0.1)))),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS.keys())
def test_sparse_params_at_any_nesting_depth_before_and_after_a_step(chain):
    state = chain.init(PARAMS)
    equal(rv.sparse_params(state, PARAMS), U)
    _, state = jax.jit(chain.update)(PARAMS, state, PARAMS)
    equal(rv.sparse_params(state, PARAMS), U)


def test_params_are_unchanged():
    before = jax.tree.map(np.array, PARAMS)
    u = rv.sparse_params(RVSM.init(PARAMS), PARAMS)
    equal(PARAMS, before)
    assert u["conv"]["bias"] is PARAMS["conv"]["bias"]


@pytest.mark.parametrize("mask", [{"conv": True, "head": False}, {**jax.tree.map(np.any, PARAMS), "head": False}])
def test_optax_masked_leaves_are_skipped(mask):
    chain = optax.chain(optax.masked(RVSM, mask), optax.sgd(1.0))
    state = chain.init(PARAMS)
    equal(rv.sparse_params(state, PARAMS), {"conv": U["conv"], "head": PARAMS["head"]})
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = chain.update(zeros, state, PARAMS)
    equal(updates["head"], zeros["head"])
    equal(updates["conv"]["kernel"], -(PARAMS["conv"]["kernel"] - U["conv"]["kernel"]))


def test_each_part_of_a_partition_has_a_separate_rule():
    labels = {"conv": "sparse", "head": "plain"}
    chain = optax.partition({"sparse": optax.chain(RVSM, optax.sgd(0.1)), "plain": optax.adam(0.1)}, labels)
    equal(rv.sparse_params(chain.init(PARAMS), PARAMS), {"conv": U["conv"], "head": PARAMS["head"]})


def test_u_follows_the_params_under_jit_and_vmap():
    w = jnp.array([[1.0, 0.05], [0.2, -0.09]])
    state = RVSM.init(w[0])
    u = jax.jit(jax.vmap(rv.sparse_params, (None, 0)))(state, w)
    assert u.tolist() == jnp.array([[1.0, 0.0], [0.2, 0.0]]).tolist()


def test_none_or_two_splittings_are_errors():
    with pytest.raises(ValueError, match=r"^opt_state must hold the state of a splitting transformation.*got none$"):
        rv.sparse_params(optax.adam(0.1).init(PARAMS), PARAMS)
    with pytest.raises(
        ValueError, match=r"^opt_state must hold one splitting transformation .*, got two at 'conv/kernel'$"
    ):
        rv.sparse_params(optax.chain(RVSM, RVSM).init(PARAMS), PARAMS)


def test_params_of_another_structure_are_named():
    state = CHAINS["chain"].init(PARAMS)
    with pytest.raises(ValueError, match=r"^params must have the structure of .*; it differs at: head/kernel$"):
        rv.sparse_params(state, {"conv": PARAMS["conv"]})


def test_the_state_of_several_trainings_is_named():
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), PARAMS)
    state = jax.vmap(RVSM.init)(stacked)
    with pytest.raises(ValueError, match=r"^opt_state must be .*, got counts of shape \(2,\): unreplicate it, or vmap"):
        rv.sparse_params(state, stacked)
    equal(jax.vmap(rv.sparse_params)(state, stacked), jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), U))


def test_within_optax_flatten_only_the_optimizer():
    inside = optax.flatten(optax.chain(RVSM, optax.sgd(0.1)))
    state = jax.jit(inside.update)(PARAMS, inside.init(PARAMS), PARAMS)[1]
    with pytest.raises(
        ValueError, match=r"^params must be one array as passed to init, got a dict: within optax.flatten"
    ):
        rv.sparse_params(state, PARAMS)
    outside = optax.chain(RVSM, optax.flatten(optax.adam(0.1)))
    equal(rv.sparse_params(outside.init(PARAMS), PARAMS), U)
    nothing = optax.masked(RVSM, False)
    equal(rv.sparse_params(nothing.init(PARAMS), PARAMS), PARAMS)


def test_an_equinox_model_stands_for_its_arrays():
    """As in AdamW, whose update takes the model itself too."""
    module = eqx.nn.MLP(4, 2, 8, depth=1, key=jax.random.key(0))
    params, rest = eqx.partition(module, eqx.is_inexact_array)
    chain = optax.chain(RVSM, optax.adamw(0.1))
    grads, state = jax.tree.map(jnp.ones_like, params), chain.init(params)
    assert eqx.tree_equal(rv.sparse_params(state, module), eqx.combine(rv.sparse_params(state, params), rest))
    equal(chain.update(grads, state, module)[0], chain.update(grads, state, params)[0])
    sparse = rv.sparsify(optax.adamw(0.1), 0.5, steps=4)
    state = sparse.init(params)
    got, want = eqx.filter_jit(sparse.update)(grads, state, module), jax.jit(sparse.update)(grads, state, params)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    equal(got, want)


def test_sparsity_counts_zeros_per_leaf_and_in_all():
    report = rv.sparsity(U)
    assert {path: (int(r.zeros), r.size, float(r.fraction)) for path, r in report.leaves.items()} == {
        "conv/kernel": (2, 4, 0.5),
        "head/kernel": (1, 2, 0.5),
    }
    assert (int(report.total.zeros), report.total.size, float(report.total.fraction)) == (3, 6, 0.5)
    everything = rv.sparsity(U, mask=True)
    assert list(everything.leaves) == ["conv/bias", "conv/kernel", "head/kernel"]
    assert float(everything.total.fraction) == 3 / 8
    assert float(rv.sparsity(jnp.array([0.0, -0.0, 1.0, jnp.nan])).total.fraction) == 0.5


def test_sparsity_works_under_jit_and_on_nothing():
    assert float(jax.jit(lambda p: rv.sparsity(p).total.fraction)(U)) == 0.5
    assert rv.sparsity({"bias": jnp.zeros(3)}).total.size == 0
    assert float(rv.sparsity({"kernel": jnp.zeros((0, 3))}).total.fraction) == 0
    assert int(rv.sparsity({"a": 0.0, "b": 1.0}, mask=True).total.zeros) == 1
