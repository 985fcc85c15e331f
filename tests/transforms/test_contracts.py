"""Requirements on every transformation. ``table``, checked against the public names, parametrizes all tests."""

import contextlib
import functools
import inspect
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import serialization
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import rvsmjax as rv
from tests.transforms.table import AROUND, BY_ORBAX, EXPLICIT, FIRST, FORMS, OPTIMIZER, SPARSE, STATIC, TABLE

SHAPES = {
    "conv": {"kernel": (2, 2, 4, 4), "bias": (4,)},
    "embedding": (3, 4),
    "head": {"kernel": (8, 4)},
    "norm": {"scale": (4,)},
}
KERNELS = {("conv", "kernel"), ("head", "kernel")}


def rows(fast):
    """Returns the decorator for all rows, those that are not ``fast`` in the slow tier."""
    marked = [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in TABLE]
    return pytest.mark.parametrize("name", marked)


FAST = (
    "rvsm top k",
    "admm top share",
    "adaptive hard threshold",
    "unit sphere",
    "keep zeros",
    "rigl of slices",
    "soft threshold of slices",
    *FORMS,
)
"""Each form of state, and transformations without one; the slow tests have every row of the table."""
every = rows(FAST)
every_form = rows(FORMS)
AUTO = [name for name in FORMS if name not in EXPLICIT or name == "rvsm rising share"]
"""Rows with automatic axes: those that explicit axes leave out, and one of both."""


def tree(seed, dtype="float32"):
    rng = np.random.default_rng(seed)

    def leaf(shape):
        return jnp.asarray(np.where(rng.random(shape) < 0.2, 0, rng.normal(size=shape)), dtype)

    return jax.tree.map(leaf, SHAPES, is_leaf=lambda node: isinstance(node, tuple))


def in_chain(name, tx):
    """Returns the transformation before, around or after an optimizer with state."""
    if name.startswith(AROUND):
        return optax.chain(tx)
    return optax.chain(*((tx, OPTIMIZER) if name.startswith(FIRST) else (OPTIMIZER, tx)))


def own_state(name, state):
    """Returns the state of the transformation in that of its chain."""
    return state[0 if name.startswith((*FIRST, *AROUND)) else 1]


@functools.cache
def jitted(name):
    """Returns the chain's init and update, compiled once for all tests, and a list that grows with each trace."""
    chain, traces = in_chain(name, TABLE[name]()), []

    def update(*args, **extra):
        traces.append(1)
        return chain.update(*args, **extra)

    return jax.jit(chain.init), jax.jit(update), traces


def train(init, update, params, grads, steps=4):
    state = init(params)
    for _ in range(steps):
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def numbers(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def same(got, want):
    """Returns whether trees are equal in structure, dtype and every bit."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(numbers(got), numbers(want), strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def close(got, want, atol=1e-5):
    chex.assert_trees_all_close(got, want, rtol=1e-4, atol=atol)


def kind(tree):
    return jax.tree.structure(tree), [(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(tree)]


def test_the_table_lists_every_public_transformation():
    functions = [x for package in (rv, rv.methods) for x in vars(package).values() if inspect.isfunction(x)]
    public = {f for f in functions if "GradientTransformation" in str(inspect.signature(f).return_annotation)}
    made = {getattr(make, "func", make) for make in TABLE.values()}
    assert {getattr(function, "of", function) for function in made} == public


@every
def test_pure(name):
    init, update, _ = jitted(name)
    params, grads = tree(0), tree(1)
    state = init(params)
    before = jax.tree.map(np.array, (grads, state, params))
    first, again = update(grads, state, params), update(grads, state, params)
    same(before, jax.tree.map(np.array, (grads, state, params)))
    same(first, again)
    same(init(params), state)


@pytest.mark.parametrize("name", TABLE)
def test_many_leaves_of_several_sizes(name):
    """Small leaves are searched in tables, those of similar length in one."""

    def widened(n):
        shapes = SHAPES | {"conv": {"kernel": (2, 2, 4, 4 * n), "bias": (4 * n,)}, "head": {"kernel": (8 * n, 4)}}
        return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, "f4"), shapes, is_leaf=lambda x: isinstance(x, tuple))

    params = {f"block{i}": widened(n) for i, n in enumerate((1, 1, 1, 4, 4, 40, 40, 400))}
    tx = in_chain(name, TABLE[name]())
    state = jax.eval_shape(tx.init, params)
    assert kind(jax.eval_shape(tx.update, params, state, params)) == kind((params, state))


@every
def test_extra_arguments_change_nothing(name):
    tx, params, grads = TABLE[name](), tree(0), tree(1)
    state = own_state(name, jitted(name)[0](params))
    extra = {"value": 1.0, "grad": grads, "fn": print}
    plain, given = (jax.make_jaxpr(partial(tx.update, **more))(grads, state, params) for more in ({}, extra))
    assert str(given) == str(plain)


@every
def test_the_state_keeps_its_structure_and_nothing_compiles_twice(name):
    init, update, traces = jitted(name)
    params, state = tree(0), in_chain(name, TABLE[name]()).init(tree(0))
    assert kind(state) == kind(init(params))
    form, traced = kind(state), len(traces)
    for step in range(4):
        updates, state = update(tree(step), state, params)
        assert kind(state) == form
        assert kind(updates) == kind(params)
    assert len(traces) <= max(traced, 1)


@every
def test_bfloat16_is_kept(name):
    chain = in_chain(name, TABLE[name]())
    params = tree(0, "bfloat16")
    state = jax.eval_shape(chain.init, params)
    updates, new = jax.eval_shape(chain.update, params, state, params)
    assert kind(updates) == kind(params)
    assert kind(new) == kind(state)


@every
def test_unselected_leaves_keep_every_bit(name):
    """For these leaves the chain equals its optimizer."""
    (init, update, _), params, grads = jitted(name), tree(0), tree(1)
    params["norm"]["scale"] = grads["conv"]["bias"] = jnp.array([-0.0, jnp.nan, -jnp.inf, 1e-30])
    updates, state = update(grads, init(params), params)
    want, _ = OPTIMIZER.update(grads, OPTIMIZER.init(params), params)
    for part, leaf in KERNELS:
        assert np.all(np.isfinite(updates[part][leaf]))
        want[part][leaf] = updates[part][leaf]
    same(updates, want)
    split_state = own_state(name, state)
    if hasattr(split_state, "inner_state"):
        split_state = split_state._replace(inner_state=())
    assert all(np.all(np.isfinite(leaf)) for leaf in numbers(split_state))


@every
def test_jit_equals_eager(name):
    init, update, _ = jitted(name)
    chain = in_chain(name, TABLE[name]())
    close(train(init, update, tree(0), tree(1), 1), train(chain.init, chain.update, tree(0), tree(1), 1))


@every_form
def test_vmap_over_seeds_and_numbers_equals_a_loop(name):
    """The first of three lanes has another λ or ρ, if there is one; the others run as without vmap."""
    make, (init, update, _) = TABLE[name], jitted(name)
    number = "rho" if name.startswith("admm") else "lam"
    given = getattr(make, "keywords", {}).get(number)
    xs = jnp.array([0.3, given, given]) if isinstance(given, float) else jnp.zeros(3)

    def run(x, params, grads):
        chain = in_chain(name, make(**({number: x} if isinstance(given, float) else {})))

        def step(carry, _):
            params, state = carry
            updates, state = chain.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, chain.init(params)), length=4)[0]

    lanes = [(tree(seed), tree(seed + 10)) for seed in (0, 0, 1)]
    together = jax.jit(jax.vmap(run))(xs, *jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes))
    for i in (1, 2):
        close(jax.tree.map(lambda leaf, i=i: leaf[i], together), train(init, update, *lanes[i]))


@every_form
def test_inject_hyperparams_within_multi_steps(name):
    make, (init, update, _) = TABLE[name], jitted(name)
    static = next((names for start, names in STATIC.items() if name.startswith(start)), ())
    inject = optax.inject_hyperparams(getattr(make, "func", make), static_args=static)
    tx = inject(*getattr(make, "args", ()), **getattr(make, "keywords", {}))
    rounds = optax.MultiSteps(in_chain(name, tx), every_k_schedule=2)
    params, state = train(rounds.init, jax.jit(rounds.update), tree(0), tree(1), 6)
    want, plain = train(init, update, tree(0), tree(1), 3)
    close(params, want)
    close(rv.transforms.splitting_states(state), rv.transforms.splitting_states(plain))


@every_form
def test_masked_to_a_part_of_the_tree(name):
    """Equals a run on that part only; it contains the conv kernel and its bias, which is unchanged."""
    make, params, grads = TABLE[name], tree(0), tree(1)
    if "overrides" in getattr(make, "keywords", {}):
        make = partial(make, overrides={"conv": {"lam": 0.2}})
    if "layout" in getattr(make, "keywords", {}):
        make = partial(make, layout={"conv": make.keywords["layout"]["conv"]})
    tx, part = make(), {"conv": params["conv"]}
    want, alone = tx.update({"conv": grads["conv"]}, tx.init(part), part)
    labels = {key: key if key == "conv" else "other" for key in params}
    masked = optax.masked(tx, {key: key == "conv" for key in params})
    for whole in (masked, optax.partition({"conv": tx, "other": optax.identity()}, labels)):
        updates, state = whole.update(grads, whole.init(params), params)
        same(updates, grads | want)
        if name.startswith(SPARSE):
            same(rv.sparse_params(state, params), params | rv.sparse_params(alone, part))


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        *(pytest.param(n, AxisType.Auto, marks=[] if n in AUTO else pytest.mark.slow) for n in TABLE),
        *(pytest.param(n, AxisType.Explicit, marks=[] if n in EXPLICIT else pytest.mark.slow) for n in TABLE),
    ],
)
def test_sharded_parameters_keep_their_sharding(name, axes):
    init, update, _ = jitted(name)
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "model"), axis_types=(axes, axes))

    def shard(leaf):
        parts = [None] * leaf.ndim
        if leaf.ndim > 1:
            parts[-2:] = ["data" if leaf.shape[-2] % 2 == 0 else None, "model"]
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*parts)))

    params, grads = jax.tree.map(shard, (tree(0), tree(1)))
    with jax.set_mesh(mesh) if axes == AxisType.Explicit else contextlib.nullcontext():
        updates, state = update(grads, init(params), params)
    for got, given in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True):
        assert got.sharding.is_equivalent_to(given.sharding, given.ndim)
    for leaf in jax.tree.leaves(state):
        if leaf.ndim > 1:
            assert leaf.sharding.is_equivalent_to(shard(leaf).sharding, leaf.ndim)
    close((updates, state), update(tree(1), init(tree(0)), tree(0)))


@every
def test_init_of_shapes_has_the_form_of_a_state(name):
    chain, shapes = in_chain(name, TABLE[name]()), jax.eval_shape(lambda: tree(0))

    def form(state):
        return jax.tree.structure(state), [(x.shape, x.dtype) for x in jax.tree.leaves(state)]

    assert form(chain.init(shapes)) == form(chain.init(tree(0)))


@every
def test_shardings_of_the_state_follow_from_those_of_the_parameters(name):
    chain, spec = in_chain(name, TABLE[name]()), PartitionSpec("data")
    state, specs = chain.init(tree(0)), jax.tree.map(lambda _: spec, tree(0))
    equal = optax.tree.map_params(chain, lambda leaf: leaf, state)
    same(equal, state)
    same(*(chain.update(tree(1), of, tree(0)) for of in (equal, state)))  # also in what it knows of the parameters
    mapped = optax.tree.map_params(
        chain,
        lambda leaf, of: of,
        state,
        specs,
        transform_non_params=lambda _: None,
        is_leaf=lambda node: isinstance(node, optax.MaskedNode),
    )
    assert {leaf for leaf in jax.tree.leaves(mapped) if leaf is not None} <= {spec}


@every
def test_flax_serializes_the_state(name):
    init, update, _ = jitted(name)
    _, state = train(init, update, tree(0), tree(1), 2)
    restored = serialization.from_bytes(init(tree(2)), serialization.to_bytes(state))
    same(jax.tree.map(jnp.asarray, restored), state)


def by_orbax(saved, fresh, folder):
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "states", saved)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder / "states", fresh)


def by_npz(saved, fresh, folder):
    np.savez(folder / "states.npz", *numbers(saved))
    loaded = np.load(folder / "states.npz")
    leaves, structure = jax.tree.flatten(fresh)
    # bfloat16 comes back as two bytes without a type.
    return jax.tree.unflatten(structure, [loaded[k].view(x.dtype) for k, x in zip(loaded.files, leaves, strict=True)])


@pytest.mark.parametrize(("way", "names"), [(by_orbax, BY_ORBAX), (by_npz, FAST)])
def test_restored_states_continue_bit_identically(way, names, tmp_path):
    saved = {name: train(*jitted(name)[:2], tree(0), tree(1), 3) for name in names}
    fresh = {name: (tree(2), jitted(name)[0](tree(2))) for name in names}
    restored = way(saved, fresh, tmp_path)
    same(restored, saved)
    for name, (params, state) in saved.items():
        _, update, traces = jitted(name)
        again, loaded = restored[name]
        traced = len(traces)
        same(update(tree(1), loaded, again), update(tree(1), state, params))
        assert len(traces) == traced
        if name.startswith(SPARSE):
            same(rv.sparse_params(loaded, again), rv.sparse_params(state, params))


@every
def test_params_are_required(name):
    tx = TABLE[name]()
    with pytest.raises(ValueError, match=r"^params must be passed to update: "):
        tx.update(tree(1), jax.eval_shape(tx.init, tree(0)))
