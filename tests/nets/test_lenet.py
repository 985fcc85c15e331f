"""LeNet: its size, its values compared with a loop, and straight-through estimators."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rvsmjax.nets import LeNet, LeNet300, binary
from rvsmjax.nets.lenet import conv_pooled, first_largest

scores = nnx.jit(lambda net, x: net(x))
SMALL = {"widths": (6, 16, 120, 84)}
X = np.array([-2.0, -0.0, 0.0, 0.3, 1.0, 1.7])


@pytest.mark.parametrize(
    ("options", "counts", "total"),
    [
        ({}, {"conv1": 520, "conv2": 25_050, "dense1": 400_500, "dense2": 5_010}, 431_080),
        (SMALL, {"conv1": 156, "conv2": 2_416, "dense1": 30_840, "dense2": 10_164, "dense3": 850}, 44_426),
    ],
    ids=["default", "small"],
)
def test_counts_are_exact(options, counts, total):
    state = nnx.state(nnx.eval_shape(lambda: LeNet(**options, rngs=nnx.Rngs(0))), nnx.Param)
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in state.items()}
    assert sizes == counts
    assert sum(sizes.values()) == total


def test_the_fully_connected_network_has_its_size_and_values():
    net = LeNet300(rngs=nnx.Rngs(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param))) == 266_610
    images = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    x = images.reshape(3, -1).astype(float)
    for layer in (net.dense1, net.dense2, net.dense3):
        x = np.maximum(x, 0) if layer is not net.dense1 else x
        x = x @ np.asarray(layer.kernel[...], float) + np.asarray(layer.bias[...])
    np.testing.assert_allclose(scores(net, images), x, atol=1e-5)
    with pytest.raises(ValueError, match=r"x must have shape \(n, 28, 28, 1\), got \(3, 784\)"):
        net(images.reshape(3, -1))
    for layer in (LeNet300(init="glorot", rngs=nnx.Rngs(0)).dense1, net.dense1):
        deviation = np.sqrt(2 / (784 + 300) if layer is not net.dense1 else 1 / 784)
        np.testing.assert_allclose(np.std(layer.kernel[...]), deviation, rtol=0.01)
    with pytest.raises(ValueError, match="init must be one of lecun, glorot, got 'he'"):
        LeNet300(init="he", rngs=nnx.Rngs(0))


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

    def linear(x, layer):
        return x @ np.asarray(layer.kernel[...], float) + np.asarray(layer.bias[...])

    x = pool(unit(conv(x, net.conv1)))
    x = pool(unit(conv(x, net.conv2))).ravel()
    for layer in net.maps[2:-1]:
        x = unit(linear(x, layer))
    return linear(x, net.maps[-1])


@pytest.mark.parametrize("options", [{}, SMALL | {"pooling": "after"}], ids=["default", "small"])
@pytest.mark.parametrize(
    ("activation", "unit"), [("relu", lambda x: np.maximum(x, 0)), ("binary", lambda x: 1.0 * (x > 0))]
)
def test_scores_against_a_loop(activation, unit, options):
    net = LeNet(activation=activation, **options, rngs=nnx.Rngs(1))
    for bias in (layer.bias for layer in net.maps):
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


def test_of_equal_outputs_of_a_window_the_first_receives_the_derivative():
    windows = np.array([[-1.0, 0.2, 3, 0], [-3, -1, -2, -4], [2, 0, -1, 1], [-2, -1, 0, 4]])
    x = jnp.asarray(windows, "float32").reshape(1, 4, 1, 4, 1)
    values, pull = jax.vjp(lambda x: binary(first_largest(x, binary), "identity"), x)
    outputs = windows > 0
    np.testing.assert_array_equal(values.ravel(), outputs.max(1))
    want = np.eye(4)[outputs.argmax(1)]  # NumPy's is the first, too
    np.testing.assert_array_equal(pull(jnp.ones((1, 4, 1, 1)))[0].reshape(4, 4), want)


@pytest.mark.parametrize("ste", [None, "relu", "clipped_relu", "identity"])
def test_the_order_of_pooling_and_activation_matters_to_derivatives_of_estimators_alone(ste):
    """Outputs are the same in both orders, derivatives only with a ReLU and those of units behind the convolutions."""
    activation = {"activation": "relu"} if ste is None else {"activation": "binary", "ste": ste}
    x = jax.random.normal(jax.random.key(0), (4, 28, 28, 1))

    @nnx.jit
    def scores_and_gradient(net, x):
        def loss(net):
            scores = net(x)
            return jnp.sum(scores**2), scores

        gradient, scores = nnx.grad(loss, has_aux=True)(net)
        return scores, gradient

    nets = [LeNet(widths=(3, 4, 8), **activation, pooling=order, rngs=nnx.Rngs(1)) for order in ("before", "after")]
    (before, first), (after, second) = (scores_and_gradient(net, x) for net in nets)
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first.dense1.kernel[...], second.dense1.kernel[...], rtol=1e-4, atol=1e-6)
    one, other = (np.asarray(gradient.conv1.kernel[...]) for gradient in (first, second))
    if ste is None:
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    else:
        assert np.linalg.norm(one - other) > 0.1 * np.linalg.norm(one)


def test_pytorchs_initialization():
    """Kernels and biases are uniform on ±1/√(inputs of a unit)."""
    net = LeNet(**SMALL, init="torch", rngs=nnx.Rngs(0))
    inputs = [25, 150, 256, 120, 84]
    for layer, count in zip(net.maps, inputs, strict=True):
        kernel, bias = (np.asarray(leaf[...]) * np.sqrt(count) for leaf in (layer.kernel, layer.bias))
        assert 0.9 < np.abs(kernel).max() <= 1 + 1e-6
        assert kernel.std() == pytest.approx(3**-0.5, abs=0.1)
        assert 0 < np.abs(bias).max() <= 1 + 1e-6
    assert not np.any(LeNet(**SMALL, rngs=nnx.Rngs(0)).dense3.bias[...])


def test_every_kernel_learns_through_binary_units():
    net = LeNet(activation="binary", ste="clipped_relu", rngs=nnx.Rngs(3))
    x = jax.random.normal(jax.random.key(0), (8, 28, 28, 1))
    grads = nnx.jit(nnx.grad(lambda net: jnp.mean(net(x) ** 2)))(net)
    assert all(float(jnp.max(jnp.abs(leaf))) > 0 for leaf in jax.tree.leaves(grads))


def test_errors():
    for wrong, message in (
        ({"activation": "tanh"}, "^activation must be one of relu, binary, got 'tanh'$"),
        ({"ste": "sign"}, "^ste must be one of relu, clipped_relu, identity, got 'sign'$"),
        ({"ste_scale": 0.0}, "^scale must be "),
        ({"pooling": "never"}, "^pooling must be one of before, after, got 'never'$"),
        ({"init": "he"}, "^init must be one of lecun, torch, got 'he'$"),
    ):
        with pytest.raises(ValueError, match=message):
            LeNet(**wrong, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"^x must have shape \(n, 28, 28, 1\), got \(1, 32, 32, 1\)$"):
        LeNet(rngs=nnx.Rngs(0))(jnp.zeros((1, 32, 32, 1)))
