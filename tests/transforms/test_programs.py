"""What training programs do to a transformation and its state: donation, copies, boxes, models, meshes."""

import copy
import pickle

import chex
import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.transforms.optimizers import BOUNDED, FACTORED, PLAIN, SCALED, defaults_for

TRANSFORMATIONS = {
    "sparsify": rv.sparsify(optax.adam(0.01), 0.75, steps=8),
    "rvsm": rv.rvsm(rv.L0(), sparsity=0.75, beta=0.1),
    "rvsm with u": rv.rvsm(rv.L1(), jnp.float32(0.1), jnp.float32(0.1), update_every=2, certificate=True),
    "admm": rv.admm(rv.TopK(sparsity=0.75), rho=jnp.float32(0.1), dual_every=2),
}


def kernels(seed=0, shapes=((8, 6), (6, 4))):
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return {f"dense{i}": {"kernel": jax.random.normal(k, s)} for i, (k, s) in enumerate(zip(keys, shapes, strict=True))}


@pytest.fixture(params=TRANSFORMATIONS)
def tx(request):
    return TRANSFORMATIONS[request.param]


def test_a_donated_state_shares_no_array_with_the_next(tx):
    params = kernels()
    step = jax.jit(tx.update, donate_argnums=1)
    for _ in range(2):
        jax.block_until_ready(step(params, tx.init(params), params))


def test_nothing_is_moved_to_a_device_before_init():
    params = kernels()
    with jax.transfer_guard("disallow"):
        for tx in (
            rv.sparsify(optax.adam(0.01), 0.75, steps=8),
            rv.rvsm(rv.Grouped(rv.TransformedL1(), "filters"), sparsity=0.5, beta=0.1),
            rv.admm(rv.TopK(sparsity=0.75), rho=0.1),
        ):
            jax.jit(tx.update)(params, jax.jit(tx.init)(params), params)


@pytest.mark.parametrize("make", [copy.deepcopy, lambda tree: pickle.loads(pickle.dumps(tree))])
def test_copies_of_a_state_go_on_without_a_new_trace(tx, make):
    params = kernels()
    step = jax.jit(chex.assert_max_traces(tx.update, 1))
    _, state = step(params, tx.init(params), params)
    same = make(state)
    assert jax.tree.structure(same) == jax.tree.structure(state)
    chex.assert_trees_all_equal(step(params, same, params), step(params, state, params))
    chex.clear_trace_counter()


def test_copies_of_the_state_of_an_equinox_model(tx):
    params = eqx.filter(eqx.nn.MLP(4, 2, 8, 1, key=jax.random.key(0)), eqx.is_inexact_array)
    step = jax.jit(chex.assert_max_traces(tx.update, 1))
    _, state = step(params, tx.init(params), params)
    copied, same = copy.deepcopy((params, state))
    chex.assert_trees_all_equal(step(copied, same, copied), step(params, state, params))
    chex.clear_trace_counter()


def test_the_marks_are_an_empty_tuple_to_those_who_walk_over_a_state(tx):
    marks = tx.init(kernels()).marks
    assert isinstance(marks, tuple)
    assert list(marks) == []
    assert marks.paths == ["dense0/kernel", "dense1/kernel"]


def test_boxes_of_flax_can_go_after_init(tx):
    init = nn.with_logical_partitioning(nn.initializers.normal(), ("in", "out"))
    boxed = nn.Dense(6, kernel_init=init).init(jax.random.key(0), jnp.ones((1, 8)))["params"]
    params, state = nn.unbox((boxed, tx.init(boxed)))
    gradient = jax.tree.map(jnp.ones_like, params)
    want, _ = tx.update(gradient, tx.init(params), params)
    got, _ = jax.jit(tx.update)(gradient, state, params)
    chex.assert_trees_all_close(got, want, rtol=1e-6)


def test_functions_in_a_model_are_no_parameters(tx):
    params = kernels() | {"activation": jax.nn.relu}
    arrays = kernels()
    gradient = jax.tree.map(jnp.ones_like, arrays) | {"activation": None}
    if tx is TRANSFORMATIONS["sparsify"]:  # Adam itself takes arrays alone
        tx = rv.sparsify(optax.sgd(0.01), 0.75, steps=8)
    state = tx.init(params)
    want, _ = tx.update(jax.tree.map(jnp.ones_like, arrays), tx.init(arrays), arrays)
    for _ in range(3):
        got, state = tx.update(gradient, state, params)
    assert got.pop("activation") is None
    first, _ = tx.update(gradient, tx.init(params), params)
    chex.assert_trees_all_equal({name: first[name] for name in want}, want)


def test_a_selected_leaf_without_a_gradient_is_named(tx):
    params = kernels()
    gradient = params | {"dense1": {"kernel": None}}
    with pytest.raises(
        ValueError, match=r"^updates must hold an array for each selected leaf.*got none at dense1/kernel"
    ):
        tx.update(gradient, tx.init(params), params)


@pytest.mark.parametrize(
    "tx",
    [
        pytest.param(rv.sparsify(optax.adam(0.01), 0.75, steps=8), marks=pytest.mark.slow),
        pytest.param(rv.sparsify(optax.lion(0.01), 0.75, steps=8, scope="leaf"), marks=pytest.mark.slow),
        pytest.param(rv.rvsm(rv.TopK(sparsity=0.75, scope="global"), beta=0.1), marks=pytest.mark.slow),
        rv.rvsm(rv.TransformedL1(), sparsity=0.75, beta=0.1),
        rv.admm(rv.TopK(sparsity=0.75), rho=0.1, dual_every=2),
    ],
    ids=["sparsify", "by leaf", "top_k", "tl1", "admm"],
)
def test_shard_map_checks_what_varies_between_devices(tx):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("x")

    def local(params):
        out, state = params, tx.init(params)
        for _ in range(2):
            updates, state = tx.update(jax.tree.map(jnp.ones_like, out), state, out)
            out = optax.apply_updates(out, updates)
        return rv.sparse_params(state, out)

    run = [
        jax.jit(jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=check))
        for check in (True, False)
    ]
    params = kernels(shapes=((16, 6), (8, 8)))
    got, want = (one(params) for one in run)
    chex.assert_trees_all_equal(got, want)
    parts = [jax.tree.map(lambda x, i=i: np.split(np.asarray(x), 4)[i], params) for i in range(4)]
    alone = [jax.jit(local)(part) for part in parts]
    together = jax.tree.map(lambda *xs: np.concatenate(xs), *alone)
    chex.assert_trees_all_close(got, together, rtol=1e-6)


def test_gradients_of_single_examples_reach_the_optimizer():
    private = optax.contrib.differentially_private_aggregate(1.0, 0.1, key=jax.random.key(0))
    tx = rv.sparsify(optax.chain(private, optax.sgd(0.1)), 0.5, steps=6)
    params = kernels()
    state = tx.init(params)
    for _ in range(6):
        examples = jax.tree.map(lambda w: jnp.stack([w, -w, w]), params)
        updates, state = tx.update(examples, state, params)
        params = optax.apply_updates(params, updates)
    chex.assert_trees_all_equal_shapes(params, kernels())
    assert int(rv.sparsity(params).total.zeros) == 36


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [
        (optax.sgd(0.1, momentum=0.9), PLAIN),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)), PLAIN),
        (optax.chain(optax.adaptive_grad_clip(0.1), optax.sgd(0.1)), PLAIN),
        (optax.lars(0.1), PLAIN),
        (optax.adamw(0.1), SCALED),
        (optax.lamb(0.1), SCALED),
        (optax.yogi(0.1), SCALED),
        (optax.rmsprop(0.1), SCALED),
        (optax.rprop(0.1), BOUNDED),
        (optax.lion(0.1), BOUNDED),
        (optax.adafactor(0.1), FACTORED),
        (optax.contrib.muon(0.1), BOUNDED),
    ],
    ids=["sgd", "clipped", "agc", "lars", "adamw", "lamb", "yogi", "rmsprop", "rprop", "lion", "adafactor", "muon"],
)
def test_kinds_of_optimizers(optimizer, kind):
    params = kernels()
    state = optimizer.init(params)
    assert defaults_for(lambda: optimizer.update(params, state, params), state, {(8, 6), (6, 4)}) is kind


def test_a_wrapper_around_sparsify_that_changes_parameters_is_an_error():
    tx = optax.contrib.schedule_free(rv.sparsify(optax.sgd(0.1), 0.9, steps=8), 0.1, b1=0.9)
    params = kernels()
    state = tx.init(params)
    chex.assert_trees_all_equal(rv.sparse_params(state, params), params)
    for _ in range(8):
        updates, state = tx.update(params, state, params)
        params = optax.apply_updates(params, updates)
    with pytest.raises(ValueError, match=r"^params must be those that sparsify left 0.9 sparse, got 0: a wrapper"):
        rv.sparse_params(state, params)
    inside = rv.sparsify(optax.contrib.schedule_free(optax.sgd(0.1), 0.1, b1=0.9), 0.5, steps=8)
    params = kernels()
    state = inside.init(params)
    for _ in range(8):
        updates, state = inside.update(params, state, params)
        params = optax.apply_updates(params, updates)
    assert int(rv.sparsity(rv.sparse_params(state, params)).total.zeros) == 36


def test_before_the_first_update_parameters_are_dense_without_an_error():
    tx, params = rv.sparsify(optax.sgd(0.1), lambda _: 0.75, steps=8), kernels()
    chex.assert_trees_all_equal(rv.sparse_params(tx.init(params), params), params)


def test_sparse_params_in_every_step_of_a_slow_ramp():
    """At first less than one component, or one group, is asked for."""
    groups = rv.Grouped(rv.L0(), "filters")
    for tx in (
        rv.sparsify(optax.sgd(0.1), 0.9, steps=5000),
        rv.sparsify(optax.sgd(0.1), 0.5, steps=200, penalty=groups),
    ):
        params = {"kernel": jax.random.normal(jax.random.key(0), (16, 8))}
        state, update = tx.init(params), jax.jit(tx.update)
        for _ in range(20):
            updates, state = update(params, state, params)
            params = optax.apply_updates(params, updates)
            assert rv.scalars(state, params)["sparsity"] == rv.sparsity(params).total.fraction


@pytest.mark.parametrize("method", ["keep zeros", "gradual pruning", "sparsify", "proximal", "rigl"])
def test_zeros_are_exact_with_gradients_in_bfloat16(method):
    params = {"kernel": jax.random.normal(jax.random.key(0), (64, 64))}
    pattern = {"kernel": jnp.arange(4096).reshape(64, 64) % 10 == 0}
    sgd = optax.sgd(0.1)
    tx = {
        "keep zeros": lambda: optax.chain(sgd, rv.keep_zeros(pattern)),
        "gradual pruning": lambda: optax.chain(sgd, rv.methods.gradual_pruning(rv.TopK(sparsity=0.9))),
        "sparsify": lambda: rv.sparsify(sgd, 0.9, steps=1),
        "proximal": lambda: rv.methods.proximal(sgd, rv.L0(), sparsity=0.9, rate=1.0),
        "rigl": lambda: rv.methods.rigl(sgd, 0.9, steps=10),
    }[method]()
    updates, _ = tx.update({"kernel": jnp.ones((64, 64), jnp.bfloat16)}, tx.init(params), params)
    assert abs(int(rv.sparsity(optax.apply_updates(params, updates)).total.zeros) - 0.9 * 4096) <= 1


@pytest.mark.parametrize("penalty", [rv.L1(), rv.L0(), rv.TransformedL1(1.0)], ids=["l1", "l0", "tl1"])
@pytest.mark.parametrize("given", [{"lam": 0.1}, {"sparsity": 0.5}], ids=["lam", "sparsity"])
def test_a_beta_that_rises_from_zero(penalty, given):
    beta = optax.linear_schedule(0.0, 0.1, 10)
    tx = rv.rvsm(penalty, beta=beta, **given)
    params = {"kernel": jax.random.normal(jax.random.key(0), (16, 8))}
    for update in (tx.update, jax.jit(tx.update)):
        state = tx.init(params)
        for step in range(13):
            updates, state = update({"kernel": jnp.zeros((16, 8))}, state, params)
            assert bool(jnp.all(jnp.isfinite(updates["kernel"])))
            if step == 0:
                assert float(jnp.max(jnp.abs(updates["kernel"]))) < 1e-12
        if "sparsity" in given:
            assert rv.sparsity(rv.sparse_params(state, params)).total.fraction == 0.5


def test_donated_states_leave_the_arrays_of_the_user():
    params, pattern = {"kernel": jnp.eye(4)}, {"kernel": jnp.eye(4, dtype=bool)}
    metric = {"kernel": jnp.ones((4, 4))}
    for tx in (rv.keep_zeros(pattern), rv.rvsm(rv.L0(), 0.1, 0.1, metric=metric)):
        step = jax.jit(lambda state, tx=tx: tx.update(params, state, params), donate_argnums=0)
        for _ in range(2):
            step(tx.init(params))
    assert not pattern["kernel"].is_deleted()
    assert not metric["kernel"].is_deleted()


def test_leaves_without_components_pass_two_of_four():
    params = {"a": jnp.ones((0, 4)), "b": jnp.ones((4, 0)), "c": jnp.ones((4, 4))}
    tx = rv.rvsm(rv.NM(2, 4), beta=0.1, mask=True)
    _, state = tx.update(params, tx.init(params), params)
    assert int(rv.sparsity(rv.sparse_params(state, params), mask=True).total.zeros) == 8


def test_what_is_no_optimizer_or_no_expression():
    with pytest.raises(TypeError, match=r"^optimizer must be an optax transformation with its learning rate, got"):
        rv.sparsify(optax.sgd, 0.9, steps=5)
    with pytest.raises(ValueError, match=r"^mask must be a regular expression, got '\('"):
        rv.rvsm(rv.L0(), 0.1, 0.1, mask="(").init({"kernel": jnp.eye(2)})
