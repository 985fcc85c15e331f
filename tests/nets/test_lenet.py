"""LeNet: its size, its values compared with a loop, and straight-through estimators."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rvsmjax.nets import LeNet, binary
from rvsmjax.nets.lenet import conv_pooled

scores = nnx.jit(lambda net, x: net(x))
X = np.array([-2.0, -0.0, 0.0, 0.3, 1.0, 1.7])


def test_counts_are_exact():
    state = nnx.state(nnx.eval_shape(lambda: LeNet(rngs=nnx.Rngs(0))), nnx.Param)
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in state.items()}
    assert sizes == {"conv1": 520, "conv2": 25_050, "dense1": 400_500, "dense2": 5_010}
    assert sum(sizes.values()) == 431_080


def by_hand(net, x, unit):
    """One image through the network, multiplication by multiplication."""

    def conv(x, layer):
        kernel, bias = np.asarray(layer.kernel[...], float), np.asarray(layer.bias[...], float)
        h, w = x.shape[0] - 4, x.shape[1] - 4
        return (
            np.array([[(x[i : i + 5, j : j + 5, :, None] * kernel).sum((0, 1, 2)) for j in range(w)] for i in range(h)])
            + bias
        )

    def pool(x):
        return np.maximum.reduce([x[i::2, j::2] for i in (0, 1) for j in (0, 1)])

    x = pool(unit(conv(x, net.conv1)))
    x = pool(unit(conv(x, net.conv2))).ravel()
    x = unit(x @ np.asarray(net.dense1.kernel[...], float) + np.asarray(net.dense1.bias[...]))
    return x @ np.asarray(net.dense2.kernel[...], float) + np.asarray(net.dense2.bias[...])


@pytest.mark.parametrize(
    ("activation", "unit"), [("relu", lambda x: np.maximum(x, 0)), ("binary", lambda x: 1.0 * (x > 0))]
)
def test_scores_against_a_loop(activation, unit):
    net = LeNet(activation=activation, rngs=nnx.Rngs(1))
    for name in ("conv1", "conv2", "dense1", "dense2"):
        bias = getattr(net, name).bias
        bias[...] = jax.random.normal(jax.random.key(2), bias.shape) * 0.1
    images = np.random.default_rng(0).random((2, 28, 28, 1))
    np.testing.assert_allclose(
        scores(net, jnp.asarray(images, "float32")), [by_hand(net, x, unit) for x in images], rtol=2e-4, atol=2e-5
    )


def plain(x, kernel):
    """XLA's convolution and max pooling."""
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


@pytest.mark.parametrize(
    ("image", "kernel"),
    [
        ((28, 28, 1), (5, 5, 1, 20)),
        ((12, 12, 20), (5, 5, 20, 50)),
        ((10, 6, 3), (3, 3, 3, 4)),
        ((4, 8, 2), (1, 1, 2, 5)),
    ],
)
def test_a_pooled_convolution_and_its_derivatives(image, kernel, x64):
    keys = jax.random.split(jax.random.key(4), 3)
    x, w = jax.random.normal(keys[0], (3, *image)), jax.random.normal(keys[1], kernel)
    g = jax.random.normal(keys[2], jax.eval_shape(plain, x, w).shape)

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_derivatives(function, x, w, g):
        value, pull = jax.vjp(function, x, w)
        return value, *pull(g), jax.vmap(function, (None, 0))(x, jnp.stack([w, -w, 2 * w]))[1]

    ours, theirs = (value_and_derivatives(function, x, w, g) for function in (conv_pooled, plain))
    for got, want in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_normalized_units():
    net = LeNet(activation="binary", ste="clipped_relu", normalize=True, rngs=nnx.Rngs(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param))) == 431_080
    for layer in (net.conv1, net.conv2, net.dense1):
        layer.bias[...] = jax.random.normal(jax.random.key(1), layer.bias.shape)
    x = jax.random.normal(jax.random.key(2), (16, 28, 28, 1))

    @nnx.jit
    def by_layers(net, y):
        for layer in (net.conv1, net.conv2):
            y = plain(y, layer.kernel[...])
            y = (y - y.mean((0, 1, 2))) / jnp.sqrt(y.var((0, 1, 2)) + 1e-5)
            y = 1.0 * (y + layer.bias[...] > 0)
        y = y.reshape(16, -1) @ net.dense1.kernel[...]
        mean, variance = y.mean(0), y.var(0)
        y = 1.0 * ((y - mean) / jnp.sqrt(variance + 1e-5) + net.dense1.bias[...] > 0)
        return y @ net.dense2.kernel[...] + net.dense2.bias[...], mean, variance

    want, mean, variance = by_layers(net, x)
    np.testing.assert_allclose(scores(net, x), want, atol=1e-4)
    # Running means start at 0 and variances at 1.
    np.testing.assert_allclose(net.norms[2].mean[...], 0.1 * mean, atol=1e-5)
    np.testing.assert_allclose(net.norms[2].var[...], 0.9 + 0.1 * variance, atol=1e-3)
    net.eval()
    assert scores(net, x[:1]).shape == (1, 10)


@pytest.mark.parametrize(
    ("ste", "slope"), [("relu", [0, 0, 0, 1, 1, 1]), ("clipped_relu", [0, 0, 0, 1, 0, 0]), ("identity", [1] * 6)]
)
def test_binary(ste, slope):
    x = jnp.asarray(X, "float32")
    assert binary(x, ste).tolist() == [0, 0, 0, 1, 1, 1]
    got = jax.jit(jax.vmap(jax.grad(lambda x, c: binary(x, ste, c)), (0, None)))(x, 0.5)
    np.testing.assert_array_equal(got, 0.5 * np.array(slope))
    value, change = jax.jvp(lambda x: binary(x, ste), (x.astype("bfloat16"),), (jnp.ones(6, "bfloat16"),))
    assert value.dtype == change.dtype == jnp.bfloat16
    np.testing.assert_array_equal(change.astype("float32"), slope)


def test_every_kernel_learns_through_binary_units():
    net = LeNet(activation="binary", ste="clipped_relu", rngs=nnx.Rngs(3))
    x = jax.random.normal(jax.random.key(0), (8, 28, 28, 1))
    grads = nnx.jit(nnx.grad(lambda net: jnp.mean(net(x) ** 2)))(net)
    assert all(float(jnp.max(jnp.abs(leaf))) > 0 for leaf in jax.tree.leaves(grads))


def test_errors():
    for wrong, message in (
        ({"activation": "tanh"}, "^activation must be relu or binary, got 'tanh'$"),
        ({"ste": "sign"}, "^ste must be one of relu, clipped_relu, identity, got 'sign'$"),
        ({"ste_scale": 0.0}, "^scale must be "),
    ):
        with pytest.raises(ValueError, match=message):
            LeNet(**wrong, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"^x must have shape \(n, 28, 28, 1\), got \(1, 32, 32, 1\)$"):
        LeNet(rngs=nnx.Rngs(0))(jnp.zeros((1, 32, 32, 1)))
