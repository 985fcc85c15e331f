"""adaptive_hard_threshold compared with a handwritten A Algorithm 2; keep_zeros keeps zeros with any optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import freeze

import rvsmjax as rv


def support(v, s):
    return set(np.argsort(-np.abs(v), kind="stable")[:s].tolist())


@pytest.mark.parametrize("sparse_start", [True, False])
def test_adaptive_hard_threshold_is_the_algorithm(sparse_start, x64):
    rng = np.random.default_rng(0)
    s, rate, applied, skipped = 3, 0.3, 0, 0
    w, target = rng.normal(size=(2, 9))
    if sparse_start:
        w[3:] = 0
    curvature = np.linspace(0.1, 1.5, 9)
    tx = optax.chain(optax.sgd(rate), rv.adaptive_hard_threshold(s))
    got, state = jnp.asarray(w), tx.init(jnp.asarray(w))
    update = jax.jit(tx.update)
    for _ in range(25):
        updates, state = update(curvature * (got - target), state, got)
        got = optax.apply_updates(got, updates)
        ahead = w - rate * curvature * (w - target)
        if support(w, s) != support(ahead, s):
            applied += 1
            w = np.array([x if i in support(ahead, s) else 0 for i, x in enumerate(ahead)])
            assert np.count_nonzero(got) == s
        else:
            skipped += 1
            w = ahead
        np.testing.assert_allclose(got, w, rtol=0, atol=1e-12)
    assert applied > 0
    assert skipped > 0


def test_hard_threshold_acts_only_on_the_selected_leaves():
    params = {"kernel": jnp.array([[1.0, 0.5], [0.0, 0.0]]), "bias": jnp.array([1.0, 0.5])}
    grads = {"kernel": jnp.array([[-0.75, 0.25], [0.5, 0.0]]), "bias": jnp.array([-0.75, 0.25])}
    tx = rv.adaptive_hard_threshold(1)
    updates, state = tx.update(grads, tx.init(params), params)
    assert (params["kernel"] + updates["kernel"]).tolist() == [[0, 0.75], [0, 0]]
    assert updates["bias"] is grads["bias"]
    assert not jax.tree.leaves(state)


OPTIMIZERS = {
    "momentum": optax.sgd(0.1, momentum=0.9),
    "nesterov": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(0.05),
    "adamw": optax.adamw(0.05, weight_decay=0.1),
    "rvsm": optax.chain(rv.rvsm(rv.L0(), 1e-3, 0.5), optax.sgd(0.1, momentum=0.9)),
}
KERNEL = np.array([[1.0, 0.0, -2.0], [0.0, 0.5, 0.0]], "f4")
TARGET = {"kernel": np.array([[3.0, -2.0, 1.0], [4.0, -0.5, 1.0]], "f4"), "bias": np.array([1.0, 2.0, 3.0], "f4")}


def fine_tune(optimizer, last, kernel=KERNEL, steps=50):
    """Returns the parameters at every step."""
    tx = optax.chain(optimizer, last)
    params = {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(3)}

    def step(carry, _):
        params, state = carry
        grads = jax.tree.map(lambda w, t: w - t, params, TARGET)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    # Steps of an optimizer whose moments are not zero at the start.
    _, state = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    return jax.jit(lambda carry: jax.lax.scan(step, carry, length=steps)[1])((params, state))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zeros_stay_zero_and_the_rest_moves(name):
    path = fine_tune(OPTIMIZERS[name], rv.keep_zeros())
    kernels = np.asarray(path["kernel"])
    assert np.all(kernels[:, KERNEL == 0] == 0)
    assert np.all(kernels[0][KERNEL != 0] != KERNEL[KERNEL != 0])
    free = fine_tune(OPTIMIZERS[name], optax.identity())
    # These optimizers act componentwise, so the other components move as without the pattern.
    np.testing.assert_allclose(
        kernels[:, KERNEL != 0], np.asarray(free["kernel"])[:, KERNEL != 0], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(path["bias"], free["bias"], rtol=1e-5, atol=1e-6)
    assert np.all(np.asarray(path["bias"])[-1] != 0)


def test_a_given_pattern_applies_at_once_and_frees_the_zeros_inside():
    pattern = {"kernel": np.array([[True, True, False], [False, False, True]]), "bias": np.ones(3, bool)}
    kernels = np.asarray(fine_tune(OPTIMIZERS["adam"], rv.keep_zeros(pattern))["kernel"])
    assert np.all(kernels[:, ~pattern["kernel"]] == 0)
    assert np.all(kernels[:, pattern["kernel"]] != 0)


def test_the_pattern_of_u_fits():
    params = {"kernel": jnp.array([[1.0, 0.01]]), "bias": jnp.array([0.0, 1.0])}
    u = rv.sparse_params(rv.rvsm(rv.L0(), 0.005, 1.0).init(params), params)
    tx = rv.keep_zeros(rv.sparsity_mask(u), mask=True)
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    new = optax.apply_updates(params, updates)
    assert new["kernel"].tolist() == [[2, 0]]
    assert new["bias"].tolist() == [0, 2]


def test_a_pattern_of_all_parameters_within_optax():
    """``optax.masked`` and ``partition`` pass a part of the parameters."""
    params = {"a": {"kernel": jnp.ones((1, 2))}, "b": {"kernel": jnp.ones((1, 2))}}
    pattern = {"a": {"kernel": jnp.array([[True, False]])}, "b": {"kernel": jnp.array([[False, True]])}}
    frozen = optax.chain(optax.sgd(1.0), rv.keep_zeros(pattern))
    labels = {"a": "frozen", "b": "free"}
    wanted = {"a": {"kernel": [[0.0, 0.0]]}, "b": {"kernel": [[0.0, 0.0]]}}
    for tx in (
        optax.chain(
            optax.masked(frozen, {"a": True, "b": False}), optax.masked(optax.sgd(1.0), {"a": False, "b": True})
        ),
        optax.partition({"frozen": frozen, "free": optax.sgd(1.0)}, labels),
    ):
        updates, _ = tx.update(params, tx.init(params), params)
        assert jax.tree.map(lambda w: w.tolist(), optax.apply_updates(params, updates)) == wanted
        half = jax.tree.map(lambda g: g / 2, params)
        updates, _ = tx.update(half, tx.init(params), params)
        assert optax.apply_updates(params, updates)["a"]["kernel"].tolist() == [[0.5, 0.0]]
        assert optax.apply_updates(params, updates)["b"]["kernel"].tolist() == [[0.5, 0.5]]


def test_errors():
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    whole = np.ones((2, 3), bool)
    for pattern, where in (
        ({"kernel": whole}, "it differs at: bias"),
        (True, "it differs at: , bias, kernel"),
        ({"kernel": whole.T, "bias": whole[0]}, r"got \(3, 2\) instead of \(2, 3\) at kernel"),
    ):
        with pytest.raises(ValueError, match=f"^pattern must .*{where}$"):
            rv.keep_zeros(pattern).init(params)
    tx = rv.keep_zeros()
    with pytest.raises(ValueError, match=r"^updates must hold an array for each selected leaf: .* got none at kernel$"):
        tx.update({"kernel": None, "bias": jnp.ones(3)}, tx.init(params), params)
    for s in (0, -1, 1.5):
        with pytest.raises(ValueError, match=r"^s must be a whole number >= 1, got "):
            rv.adaptive_hard_threshold(s)
    for tx in (rv.keep_zeros(), rv.adaptive_hard_threshold(1)):
        with pytest.raises(ValueError, match=r"^params must be passed to update: "):
            tx.update(params, tx.init(params))
        with pytest.raises(TypeError, match=r"got int32 at kernel$"):
            tx.init({"kernel": jnp.ones((2, 2), int)})


@pytest.mark.parametrize(
    ("pattern", "where"),
    [
        (freeze({"a": {"kernel": True}, "b": {"kernel": True}}), "the root, FrozenDict instead of dict"),
        ({"a": {"kernel": True}, "b": freeze({"kernel": True})}, "b, FrozenDict instead of dict"),
        ({"a": {"kernel": True}, "c": {"kernel": True}}, "b/kernel, c/kernel"),
    ],
)
def test_a_pattern_in_other_containers_is_named(pattern, where):
    params = {"a": {"kernel": jnp.eye(2)}, "b": {"kernel": jnp.eye(2)}}
    with pytest.raises(ValueError, match=rf"^pattern must be .* with the structure of params, it differs at: {where}$"):
        rv.keep_zeros(pattern).init(params)
