"""SR-STE compared with the iteration of the paper in NumPy; its relation to ``sparsify``; rounding; errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.methods import sr_ste

RATE, DECAY = 0.1, 0.3


def problem():
    rng = np.random.default_rng(1)
    return (rng.normal(size=(8, 5)).astype("f4"), np.abs(rng.normal(size=(8, 5)).astype("f4")), rng.normal(size=(8, 5)))


def run(tx, steps, start, dtype="float32"):
    _, curvature, best = problem()
    params, update = jnp.asarray(start, dtype), jax.jit(tx.update)
    state = tx.init(params)
    for _ in range(steps):
        grads = jnp.asarray(curvature * (np.asarray(params, "f4") - best), dtype)
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        yield np.asarray(params, "f4"), state


def two_of_four(w):
    """Returns the mask of the two largest of each four along the first axis."""
    blocks = np.abs(w).reshape(2, 4, 5)
    mask = np.zeros(blocks.shape, bool)
    np.put_along_axis(mask, np.argsort(-blocks, axis=1, kind="stable")[:, :2], True, axis=1)
    return mask.reshape(w.shape)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_iteration_of_the_paper(momentum):
    """W ← W − γ(g(W̃) + λ(1 − mask)W), with the momentum and weight decay of PyTorch's SGD."""
    optimizer = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(RATE, momentum))
    w, curvature, best = problem()
    w = w * two_of_four(w)  # then the first gradient is at sparse weights, as in the paper
    tx, memory, patterns = sr_ste(optimizer, decay=DECAY), np.zeros_like(w), set()
    for params, state in run(tx, 40, w):
        mask = two_of_four(w)
        grads = curvature * (w * mask - best) + DECAY * ~mask * w + 0.01 * w
        memory = momentum * memory + grads.astype("f4")
        w = w - np.float32(RATE) * memory
        np.testing.assert_allclose(params, w * two_of_four(w), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(params + state.residual, w, rtol=1e-4, atol=1e-6)
        patterns.add(two_of_four(w).tobytes())
        assert rv.nm_violations({"kernel": params}, 2, 4)["kernel"] == 0
    assert len(patterns) > 3
    numbers = rv.scalars(state, params)
    assert float(numbers["sparsity"]) == 0.5
    gap = np.linalg.norm(w * ~two_of_four(w)) / np.linalg.norm(w)
    assert float(numbers["gap"]) == pytest.approx(gap, rel=1e-4)


def test_it_is_sparsify_under_plain_sgd():
    w, _, _ = problem()
    ours = sr_ste(optax.sgd(RATE), decay=DECAY)
    theirs = rv.sparsify(
        optax.sgd(RATE), penalty=rv.NM(), steps=40, freeze=10**6, pull=RATE * DECAY, rate=1.0, dense=True
    )
    for (one, _), (other, _) in zip(run(ours, 40, w), run(theirs, 40, w), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_decay_goes_through_the_optimizer():
    w, _, _ = problem()
    ours = [p for p, _ in run(sr_ste(optax.adam(RATE), decay=DECAY), 30, w)]
    without = [p for p, _ in run(sr_ste(optax.adam(RATE), decay=0.0), 30, w)]
    assert np.abs(ours[-1] - without[-1]).max() > 1e-3
    np.testing.assert_array_equal(ours[0], without[0])  # the first gradient is at dense parameters


def test_small_steps_of_bfloat16_parameters_add_up():
    """Steps under half a unit in the last place, of which the parameters alone would keep nothing."""
    w = jnp.asarray(np.outer(np.linspace(1, 2, 8), np.ones(5)), "bfloat16")
    tx = sr_ste(optax.sgd(1e-4), decay=0.0)
    params, state, update = w, tx.init(w), jax.jit(tx.update)
    for _ in range(100):
        updates, state = update(jnp.ones_like(w), state, params)
        params = optax.apply_updates(params, updates)
    assert params.dtype == jnp.bfloat16
    np.testing.assert_allclose(params.astype("f4") + state.residual, np.asarray(w, "f4") - 0.01, atol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match=r"^decay must be finite and >= 0, got -1$"):
        sr_ste(optax.sgd(0.1), decay=-1)
    with pytest.raises(ValueError, match=r"^n must be at most m = 4, got 5$"):
        sr_ste(optax.sgd(0.1), 5, 4)
    with pytest.raises(ValueError, match=r"^axis -2 must have a length that is a multiple of m = 4, got shape "):
        sr_ste(optax.sgd(0.1)).init(jnp.ones((6, 2)))
