"""Layouts: a stack equals its layers unrolled, other orders of axes equal Flax's."""

import dataclasses
import functools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import rvsmjax as rv
from rvsmjax.transforms.leaves.layouts import check_layout

OPTIMIZER = optax.sgd(0.1, momentum=0.9)
SHAPES = {"conv": {"kernel": (3, 4, 8)}, "dense": {"kernel": (8, 4), "bias": (4,)}}
"""Of one layer."""
STACK = {"conv": "stack ... in out", "": "stack ..."}
BEHIND = {"conv": "... in stack out", "dense/kernel": "in stack out", "bias": "stack out"}

rvsm, sparsify = partial(rv.rvsm, lam=0.1, beta=0.5), partial(rv.sparsify, OPTIMIZER)
CASES = {
    "top k": partial(rvsm, rv.TopK(sparsity=0.6)),
    "top of all": partial(rvsm, rv.TopK(sparsity=0.6, scope="global")),
    "n of m": partial(rvsm, rv.NM(2, 4)),
    "n of m along the outputs": partial(rvsm, rv.NM(1, 4, axis=-1)),
    "filters": partial(rvsm, rv.Grouped(rv.L1(), "filters")),
    "channels": partial(rvsm, rv.Grouped(rv.TransformedL1(), "channels")),
    "rows": partial(rvsm, rv.Grouped(rv.TopK(k=2), "rows"), mask="dense/kernel"),
    "by number": partial(rvsm, rv.Grouped(rv.L0(), (-2,))),
    "top filters": partial(rvsm, rv.Grouped(rv.TopK(sparsity=0.5), "filters")),
    "top filters of all": partial(rvsm, rv.Grouped(rv.TopK(sparsity=0.5, scope="global"), "filters")),
    "l1": partial(rvsm, rv.L1(), certificate=True),
    "certified": partial(rvsm, rv.Grouped(rv.L1(), "filters"), certificate=True),
    "vectors": partial(rvsm, rv.TopK(k=2), mask="dense"),
    "share": partial(rv.rvsm, rv.L1(), beta=0.5, sparsity=0.6),
    "share of each": partial(rv.rvsm, rv.TransformedL1(), beta=0.5, sparsity=0.6, scope="leaf", certificate=True),
    "filters of each": partial(rv.rvsm, rv.Grouped(rv.L0(), "filters"), beta=0.5, sparsity=0.5, scope="leaf"),
    "filters of all": partial(rv.rvsm, rv.Grouped(rv.L0(), "filters"), beta=0.5, sparsity=0.5),
    "sparsify": partial(sparsify, 0.6, steps=6),
    "sparsify each": partial(sparsify, 0.6, steps=6, scope="leaf"),
    "sparsify n of m": partial(sparsify, penalty=rv.NM(2, 4), steps=6),
    "admm": partial(rv.admm, rv.TopK(sparsity=0.6), 0.5),
    "adaptive hard threshold": partial(rv.adaptive_hard_threshold, 6),
    "unit sphere": rv.unit_sphere,
}


is_shape = partial(lambda kind, node: isinstance(node, kind), tuple)


def layers(seed, count=3, scale=10.0):
    """Layers of very different scales: a budget for all of them would empty some."""
    rng = np.random.default_rng(seed)

    def leaf(shape, i):
        return (scale**-i * rng.normal(size=shape)).astype("f4")

    return [jax.tree.map(partial(leaf, i=i), SHAPES, is_leaf=is_shape) for i in range(count)]


def stacked(trees, axis):
    return jax.tree.map(lambda *xs: jnp.stack(xs, axis), *trees)


def unrolled(trees):
    return {str(i): tree for i, tree in enumerate(trees)}


def trained(tx, params, grads, steps=4):
    """Returns the parameters, u and the certified numbers after some steps."""
    if isinstance(jax.eval_shape(tx.init, params), rv.transforms.SparsifyState):
        chain = optax.chain(tx)
    else:
        first = bool(rv.transforms.splitting_states(jax.eval_shape(tx.init, params)))
        chain = optax.chain(*((tx, OPTIMIZER) if first else (OPTIMIZER, tx)))

    def step(carry, _):
        params, state = carry
        updates, state = chain.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(params):
        (params, state), _ = jax.lax.scan(step, (params, chain.init(params)), length=steps)
        splittings = rv.transforms.splitting_states(state)
        numbers = [x for split in splittings for x in (getattr(split, "certificate", None) or ())[:4]]
        return params, rv.sparse_params(state, params) if splittings else params, numbers

    return run(params)


BOTH = ("n of m", "filters")
"""Cases whose stack lies behind, too, in the default tests."""
LIKE_OTHERS = (
    "channels",
    "by number",
    "n of m along the outputs",
    "top filters",
    "top filters of all",
    "certified",
    "vectors",
    "share",
    "filters of each",
    "filters of all",
    "sparsify each",
)
"""Cases in the slow tests: each joins what two others have apart."""


def slow_unless(fast):
    return () if fast else pytest.mark.slow


@functools.cache
def of_layers(name):
    return trained(CASES[name](), unrolled(layers(0)), unrolled(layers(1, scale=1.0)))


@pytest.mark.parametrize(
    ("name", "layout", "axis"),
    [
        *(
            pytest.param(name, STACK, 0, id=f"{name}-first", marks=slow_unless(name not in LIKE_OTHERS))
            for name in CASES
        ),
        *(
            pytest.param(name, BEHIND, -2, id=f"{name}-second to last", marks=slow_unless(name in BOTH))
            for name in CASES
        ),
    ],
)
def test_a_stack_equals_its_layers(name, layout, axis):
    params, grads = (stacked(trees, axis) for trees in (layers(0), layers(1, scale=1.0)))
    want = of_layers(name)
    got = trained(CASES[name](layout=layout), params, grads)
    for i in range(3):
        for ours, theirs in zip(got[:2], want[:2], strict=True):
            mine = jax.tree.map(lambda x, i=i: jnp.take(x, i, axis), ours)
            jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-7), mine, theirs[str(i)])
            jax.tree.map(lambda a, b: np.testing.assert_array_equal(a == 0, b == 0), mine, theirs[str(i)])
    np.testing.assert_allclose(got[2], want[2], rtol=1e-4)


OIHW, HWIO = {"": "out in ..."}, {"": "... in out"}


@pytest.mark.parametrize(
    "penalty",
    [
        rv.NM(2, 4),
        rv.TopK(sparsity=0.5),
        *(rv.Grouped(rv.L1(), axes) for axes in ("filters", "channels", "rows", (0, 1), (-1,))),
        rv.Grouped(rv.TopK(k=3), "filters"),
    ],
    ids=str,
)
def test_other_orders_of_axes_equal_flax(penalty):
    flax = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 4, 8)), "f4")
    torch = flax.transpose(3, 2, 0, 1)

    def u(w, layout):
        tx = rv.rvsm(penalty, 0.2, 0.5, layout=layout)
        updates, state = tx.update(0 * w, tx.init(w), w)
        return rv.sparse_params(state, w), updates

    for got, same, want in zip(u(torch, OIHW), u(flax, HWIO), u(flax, None), strict=True):
        np.testing.assert_allclose(got.transpose(2, 3, 1, 0), want, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(same, want)


ATTENTION = {"query|key|value": "in head out", "out": "in_head in out"}


def attention(kind):
    """Returns the parameters of attention with 6 heads of 4 units over 8 inputs."""
    x = jnp.zeros((1, 2, 8))
    if kind == "linen":
        return nn.MultiHeadDotProductAttention(6, qkv_features=24, out_features=8).init(jax.random.key(0), x, x)
    layer = nnx.MultiHeadAttention(6, 8, 24, out_features=8, decode=False, rngs=nnx.Rngs(0))
    return nnx.state(layer, nnx.Param)


def matrices(params):
    """Returns the matrices that attention multiplies by, (inputs, outputs), from Flax's parameters."""
    flat = {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(params)}
    kernels = {path: x for path, x in flat.items() if "kernel" in path}
    assert len(kernels) == 4
    return [x.reshape(-1, x.shape[-1]) if "out" in path else x.reshape(len(x), -1) for path, x in kernels.items()]


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_n_of_m_runs_along_the_inputs_of_attention(kind):
    params = attention(kind)
    tx = rv.rvsm(rv.NM(2, 4), beta=0.5, layout=ATTENTION)
    u = rv.sparse_params(tx.init(params), params)
    for matrix in matrices(u):
        assert ((matrix.reshape(-1, 4, matrix.shape[1]) != 0).sum(1) == 2).all()
    assert set(rv.nm_violations(u, layout=ATTENTION).values()) == {0}
    dense = rv.nm_violations(params, layout=ATTENTION)
    assert sorted(dense.values()) == [x.size // 4 for x in matrices(params)]


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_groups_of_heads(kind):
    """Half of the heads of each projection: those of the largest norms."""
    params = attention(kind)
    tx = rv.rvsm(rv.Grouped(rv.TopK(sparsity=0.5), "heads"), beta=0.5, layout=ATTENTION)
    u = rv.sparse_params(tx.init(params), params)
    for before, after in zip(matrices(params), matrices(u), strict=True):
        by_head = lambda x: x.reshape(6, -1) if len(x) == 24 else x.reshape(8, 6, 4).transpose(1, 0, 2).reshape(6, -1)  # noqa: E731
        kept = np.argsort(-np.linalg.norm(by_head(before), axis=1))[:3]
        assert set(np.flatnonzero(by_head(after).any(1))) == set(kept)
        np.testing.assert_allclose(by_head(after)[kept], by_head(before)[kept], rtol=1e-6)


def test_filters_of_attention_are_the_units_of_each_head():
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(8, 6, 4)), "f4")
    params, layout = {"query": {"kernel": kernel}}, {"query": "in head out"}
    for axes, want in (("filters", (24, 1)), ("channels", (8, 0))):
        tx = rv.rvsm(rv.Grouped(rv.TopK(k=1), axes), beta=0.5, layout=layout)
        u = rv.sparse_params(tx.init(params), params)["query"]["kernel"].reshape(8, 24)
        count, axis = want
        assert u.shape[axis] == count
        assert int((u != 0).any(1 - axis).sum()) == 1


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        kernel = nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "out"))
        return nn.Dense(8, kernel_init=kernel)(x), None


def scanned(axis):
    blocks = nn.scan(
        Block,
        variable_axes={"params": axis},
        split_rngs={"params": True},
        length=3,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )
    return blocks().init(jax.random.key(0), jnp.zeros((1, 8)), None)


def vmapped(axis):
    @nnx.vmap(in_axes=0, out_axes=axis, transform_metadata={nnx.PARTITION_NAME: "layers"})
    def make(key):
        kernel = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("in", "out"))
        return nnx.Linear(8, 8, kernel_init=kernel, rngs=nnx.Rngs(key))

    with jax.set_mesh(jax.make_mesh((1, 1, 1), ("layers", "in", "out"), (jax.sharding.AxisType.Auto,) * 3)):
        return nnx.state(make(jax.random.split(jax.random.key(0), 3)), nnx.Param)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("make", [scanned, vmapped])
def test_flax_metadata_declares_the_layers(make, axis):
    params = make(axis)
    plain = nn.unbox(params) if make is scanned else nnx.as_pure(params)
    layout = {"kernel": "stack in out" if axis == 0 else "in stack out"}
    for penalty in (rv.NM(2, 4), rv.TopK(sparsity=0.6), rv.Grouped(rv.L0(), "filters")):
        boxed, bare = (rv.rvsm(penalty, 0.02, 0.5, layout=of) for of in (None, layout))
        u, want = rv.sparse_params(boxed.init(params), params), rv.sparse_params(bare.init(plain), plain)
        jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(u), jax.tree.leaves(want))
    stored = rv.rvsm(rv.TopK(sparsity=0.6), beta=0.5, layout={"": "..."})
    one = rv.sparse_params(rv.rvsm(rv.TopK(sparsity=0.6), beta=0.5).init(plain), plain)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.tree.leaves(rv.sparse_params(stored.init(params), params)),
        jax.tree.leaves(one),
    )


def test_lam_for_sparsity_of_groups():
    trees = layers(0)
    penalty = rv.Grouped(rv.L1(), "filters")
    want = rv.lam_for_sparsity(unrolled(trees), penalty, 0.5, 0.5)
    assert rv.lam_for_sparsity(stacked(trees, -2), penalty, 0.5, 0.5, layout=BEHIND) == pytest.approx(want, rel=1e-5)


def test_a_penalty_that_compares_its_leaves_sees_the_slices():
    @dataclasses.dataclass(frozen=True)
    class LargestLeaf(rv.Penalty):
        """Keeps the leaf of the largest norm."""

        separable = False
        is_constraint = True

        def value(self, x):
            return 0.0

        def prox(self, v, step):
            return v

        def prox_leaves(self, leaves, step):
            norms = jnp.stack([jnp.sum(leaf**2) for leaf in leaves])
            return [jnp.where(i == jnp.argmax(norms), leaf, 0) for i, leaf in enumerate(leaves)]

    w = {"dense": {"kernel": jnp.ones((4, 3, 2)) * jnp.array([1.0, 3.0, 2.0])[None, :, None]}}
    tx = rv.admm(LargestLeaf(), 0.5, layout={"dense": "in stack out"})
    u = rv.sparse_params(tx.init(w), w)["dense"]["kernel"]
    np.testing.assert_array_equal((u != 0).all((0, 2)), [False, True, False])
    np.testing.assert_array_equal((u == 0).all((0, 2)), [True, False, True])


@pytest.mark.parametrize(
    ("layout", "error"),
    [
        ("stack in out", TypeError),
        ({"": None}, TypeError),
        ({"(": "in out"}, ValueError),
        ({1: "in out"}, ValueError),
        ({"": ""}, ValueError),
        ({"": "layers in out"}, ValueError),
        ({"": "... in ... out"}, ValueError),
        ({"": "head in_head out"}, ValueError),
        ({"": "stack in"}, ValueError),
    ],
)
def test_a_layout_is_checked_when_it_is_given(layout, error):
    for make in (
        lambda: rv.rvsm(rv.L1(), 0.1, 0.5, layout=layout),
        lambda: rv.admm(rv.L1(), 0.5, layout=layout),
        lambda: rv.sparsify(OPTIMIZER, 0.5, steps=3, layout=layout),
        lambda: rv.adaptive_hard_threshold(3, layout=layout),
        lambda: rv.unit_sphere(layout=layout),
        lambda: rv.nm_violations({"kernel": jnp.ones((4, 4))}, layout=layout),
        lambda: rv.lam_for_sparsity({"kernel": jnp.ones((4, 4))}, rv.L1(), 0.5, 0.5, layout=layout),
    ):
        with pytest.raises(error, match=r"^layout must [^\n]*got [^\n]*$"):
            make()


@pytest.mark.parametrize(
    ("penalty", "layout", "message"),
    [
        (rv.L1(), {"embed": "in out"}, r"^layout pattern 'embed' never applies: "),
        (rv.L1(), {"": "...", "mlp": "in out"}, r"^layout pattern 'mlp' never applies: "),
        (
            rv.L1(),
            {"mlp": "stack in out"},
            r"^layout must name each axis, got 'stack in out' for shape .* at 'mlp/kernel'$",
        ),
        (
            rv.NM(2, 4),
            {"mlp": "out in", "query": "in head out", "out/": "in_head in out"},
            r"^axis -2 must have a length .* multiple of m = 4, got shape .* at 'mlp/kernel'$",
        ),
        (rv.Grouped(rv.L1(), "heads"), {"query": "in head out", "out/": "in in out"}, r"^axes 'heads' must .* at '"),
        (rv.Grouped(rv.L1(), "heads"), None, r"^layout must tell heads .* at 'attention/out/kernel'$"),
        (rv.NM(1, 2), None, r"^layout must tell heads from inputs .*'in head out' .* at 'attention/out/kernel'$"),
        (rv.NM(1, 2), {"query": "stack ..."}, r"^layout must tell heads .* at 'attention/out/kernel'$"),
        (rv.Grouped(rv.L1(), "filters"), {"out/": "in_head in out"}, r"^layout must .* at 'attention/query/kernel'$"),
    ],
)
def test_a_leaf_that_does_not_fit_is_named(penalty, layout, message):
    shapes = {"attention": {"query": (8, 6, 4), "out": (6, 4, 8)}, "mlp": (8, 6)}
    params = jax.tree.map(lambda shape: {"kernel": jnp.ones(shape)}, shapes, is_leaf=is_shape)
    with pytest.raises(ValueError, match=message) as caught:
        rv.rvsm(penalty, 0.1, 0.5, layout=layout).init(params)
    assert len(str(caught.value)) < 300


def test_what_does_not_depend_on_heads_needs_no_layout():
    shapes = {"attention": {"query": (8, 6, 4)}, "conv": (3, 4, 8), "out": (3, 4, 8)}
    params = jax.tree.map(lambda shape: {"kernel": jnp.ones(shape)}, shapes, is_leaf=is_shape)
    for penalty in (rv.L0(), rv.TopK(k=3), rv.NM(2, 4, axis=0), rv.Grouped(rv.L1(), (0, 2))):
        rv.rvsm(penalty, 0.1, 0.5, mask="query").init(params)
    rv.rvsm(rv.NM(2, 4), beta=0.5, mask="conv|^out").init(params)


def test_a_checked_layout_is_returned():
    assert check_layout(None) == {}
    assert check_layout(BEHIND) == BEHIND
