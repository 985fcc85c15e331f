"""Tests of the dtype in which a state holds arrays like the parameters."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.transforms.precision import rounded

HALF = jnp.bfloat16
COUNTS = jnp.arange(4096)


def rounded_often(value):
    return jax.vmap(lambda count: rounded(jnp.float32(value), jnp.dtype(HALF), count))(COUNTS).astype("float32")


@pytest.mark.parametrize("value", [1.001, -3.3e-7, 257.0, 1e-39, 3.38e38])
def test_rounding_is_to_a_neighbour_and_exact_in_the_mean(value):
    got = rounded_often(value)
    below = jnp.asarray(value, "float32").view("uint32") & jnp.uint32(0xFFFF0000)
    neighbours = np.asarray([below, below + 0x10000]).astype("uint32").view("float32")
    assert set(np.unique(got)) <= set(neighbours)
    share = (value - neighbours[0]) / (neighbours[1] - neighbours[0])
    deviation = np.sqrt(share * (1 - share) / len(got))
    assert abs(np.mean(np.asarray(got) == neighbours[1]) - share) < 4 * deviation + 1e-9


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, np.inf, -np.inf, np.nan])
def test_what_bfloat16_represents_stays(value):
    np.testing.assert_array_equal(rounded_often(value), np.full(len(COUNTS), value, "float32"))


def test_leaves_components_and_steps_are_rounded_independently():
    tree = {"a": jnp.full(2000, 1.001), "b": jnp.full(2000, 1.001)}
    first, second = (rounded(tree, jnp.dtype(HALF), jnp.int32(count)) for count in (0, 1))
    patterns = [np.asarray(x).astype(float) for x in (first["a"], first["b"], second["a"])]
    for i, x in enumerate(patterns):
        for y in patterns[i + 1 :]:
            assert abs(np.corrcoef(x, y)[0, 1]) < 0.1


def test_small_steps_of_the_dual_variable_add_up():
    """z of what the projection removes grows by 1e-3 a step; rounded to nearest it would stop below 1."""
    w = jnp.full(512, 1e-3).at[0].set(100.0)
    tx = rv.admm(rv.TopK(k=1), rho=1.0, mask=lambda path: True, state_dtype=HALF)

    def step(state, _):
        return tx.update(jnp.zeros_like(w), state, w)[1], None

    state, _ = jax.lax.scan(step, tx.init(w), length=1001)
    assert state.z.dtype == HALF
    assert float(state.z[1:].astype("float32").mean()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("dtype", [HALF, "float32", None])
def test_states_have_the_dtype_that_was_asked_for_and_the_sparsity_stays_exact(dtype):
    optimizer, w = optax.sgd(0.1), {"kernel": jax.random.normal(jax.random.key(1), (32, 16))}
    for tx in (
        optax.chain(rv.admm(rv.TopK(sparsity=0.75), rho=0.5, state_dtype=dtype), optimizer),
        optax.chain(rv.rvsm(rv.L0(), sparsity=0.75, beta=0.5, update_every=2, state_dtype=dtype), optimizer),
        optax.chain(rv.sparsify(optimizer, lambda count: 0.75, steps=9, state_dtype=dtype)),
    ):
        p, state = w, tx.init(w)
        for _ in range(4):
            updates, state = tx.update(jax.tree.map(lambda x: 0.01 * x, p), state, p)
            p = optax.apply_updates(p, updates)
            stored = [getattr(state[0], name) for name in ("u", "z", "residual") if hasattr(state[0], name)]
            assert {leaf.dtype for leaf in jax.tree.leaves(stored)} == {jnp.dtype(dtype or "float32")}
            assert p["kernel"].dtype == "float32"
            assert int((rv.sparse_params(state, p)["kernel"] == 0).sum()) == 384


def test_sparsify_in_half_the_memory_learns_as_well():
    """Least squares: zero components that learn in bfloat16 come back as they do in float32."""
    truth = jnp.where(jnp.arange(64) % 4 == 0, jnp.linspace(0.5, 2, 64), 0.0)
    data = jax.random.normal(jax.random.key(0), (256, 64))
    loss = lambda w: jnp.mean((data @ (w - truth)) ** 2)  # noqa: E731
    losses = []
    for dtype in (None, HALF):
        tx = rv.sparsify(optax.sgd(0.02, momentum=0.9), 0.75, steps=200, state_dtype=dtype, mask=lambda p: True)

        def step(carry, _, tx=tx):
            w, state = carry
            updates, state = tx.update(jax.grad(loss)(w), state, w)
            return (optax.apply_updates(w, updates), state), None

        w = 0.1 * jax.random.normal(jax.random.key(2), 64)
        (w, _), _ = jax.lax.scan(step, (w, tx.init(w)), length=200)
        assert int((w == 0).sum()) == 48
        np.testing.assert_array_equal(w != 0, truth != 0)
        losses.append(float(loss(w)))
    assert losses[1] < 1e-4
    assert losses[0] < 1e-4


@pytest.mark.parametrize("dtype", ["float16", "int8", "half", 3])
def test_another_dtype_is_refused(dtype):
    rule = re.escape(f"state_dtype must be None, bfloat16 or float32, got {dtype!r}")
    for make in (
        lambda: rv.rvsm(rv.L1(), lam=1.0, beta=1.0, state_dtype=dtype),
        lambda: rv.admm(rv.L1(), rho=1.0, state_dtype=dtype),
        lambda: rv.sparsify(optax.sgd(0.1), 0.5, steps=3, state_dtype=dtype),
    ):
        with pytest.raises(ValueError, match=f"^{rule}$"):
            make()
