"""The group lasso in the loss: its gradient, by hand and as a derivative, and its place in the chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from experiments.studies.lenet.recipes import LeNetRecipe
from experiments.training.recipes import make_optimizer
from experiments.training.transforms.group_lasso import EPSILON, add_group_lasso


def test_the_gradient_by_hand():
    """Rows of a linear kernel, input channels of a convolution; biases have none."""
    params = {
        "dense": {"kernel": jnp.array([[3.0, 4.0], [0.0, 0.0]]), "bias": jnp.ones(2)},
        "conv": {"kernel": jnp.array([[[[2.0, 3.0], [1.0, 0.0]]], [[[6.0, 0.0], [0.0, 0.0]]]])},
    }
    link = add_group_lasso(0.1)
    ones = jax.tree.map(jnp.ones_like, params)
    got, _ = link.update(ones, link.init(params), params)
    np.testing.assert_allclose(got["dense"]["kernel"], [[1.06, 1.08], [1, 1]], rtol=1e-6)
    np.testing.assert_array_equal(got["dense"]["bias"], [1, 1])
    norm = np.sqrt(2**2 + 3**2 + 6**2)
    want = 1 + 0.1 * np.array([[[[2 / norm, 3 / norm], [1, 0]]], [[[6 / norm, 0], [0, 0]]]])
    np.testing.assert_allclose(got["conv"]["kernel"], want, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_the_gradient_is_that_of_the_released_codes_penalty():
    w = jax.random.normal(jax.random.key(0), (5, 5, 6, 16)) * 1e-4
    link = add_group_lasso(0.3)
    got, _ = link.update({"conv": {"kernel": 0 * w}}, link.init({"conv": {"kernel": w}}), {"conv": {"kernel": w}})
    penalty = jax.grad(lambda w: 0.3 * sum(jnp.sqrt(jnp.sum(w[:, :, i] ** 2) + EPSILON) for i in range(6)))
    np.testing.assert_allclose(got["conv"]["kernel"], penalty(w), rtol=1e-12)


def test_in_the_chain():
    """A step of the splitting method in the released code, written out; linear layers have no splitting."""
    recipe = LeNetRecipe(
        method="rvsm", penalty="channel_l0", lam=0.02, split="convolutions", placement="decoupled", nesterov=True,
        loss_lasso=0.3, learning_rate=0.1, weight_decay=0.01, epochs=1,
    )  # fmt: skip
    conv = jnp.stack([jnp.full((2, 2, 3), 0.05), jnp.full((2, 2, 3), 0.5)], 2)  # norms 0.17 and 1.7, threshold 0.2
    params = {"conv1": {"kernel": conv}, "dense1": {"kernel": jnp.full((2, 2), 0.1)}}
    gradients = jax.tree.map(lambda x: 0.2 * jnp.ones_like(x), params)
    chain = make_optimizer(recipe, 10, params)
    state = chain.init(params)
    updates, state = chain.update(gradients, state, params)
    w = optax.apply_updates(params, updates)
    for channel, kept in ((0, 0.0), (1, 1.0)):
        old = np.asarray(conv[:, :, channel])
        gradient = 0.2 + 0.3 * old / np.linalg.norm(old) + 0.01 * old
        want = old - 0.1 * (1.9 * gradient + (1 - kept) * old)
        np.testing.assert_allclose(w["conv1"]["kernel"][:, :, channel], want, rtol=1e-5)
    np.testing.assert_allclose(w["dense1"]["kernel"], 0.1 - 0.1 * 1.9 * (0.2 + 0.001), rtol=1e-5)
    u = rv.sparse_params(state, w)
    assert not np.any(u["conv1"]["kernel"][:, :, 0])
    np.testing.assert_array_equal(u["dense1"]["kernel"], w["dense1"]["kernel"])
