"""QuickNet: its whitened patches, identity filters and pooling, written out in NumPy; filters without weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import erf

from rvsmjax.nets import QuickNet
from rvsmjax.nets.quick import Fixed, _gelu, _pooled

SMALL = (30, 8, 10)


@pytest.fixture
def images():
    """Images whose pixels depend on their neighbours and on the other colours."""
    x = np.random.default_rng(0).normal(size=(40, 34, 34, 3)).astype("float32")
    x = x[:, 1:-1, 1:-1] + 0.8 * x[:, :-2, 1:-1] + 0.5 * x[:, 1:-1, 2:]
    return x @ np.array([[1, 0.6, 0.3], [0, 0.7, 0.2], [0, 0, 0.4]], "float32") + 0.5


def windows(x, side):
    """Returns the patches of images, of shape (n, h', w', side · side · channels)."""
    views = np.lib.stride_tricks.sliding_window_view(x, (side, side), (1, 2)).transpose(0, 1, 2, 4, 5, 3)
    return views.reshape(*views.shape[:3], -1)


def test_whitened_patches_have_unit_covariance(images):
    network = QuickNet(widths=SMALL, rngs=nnx.Rngs(0))
    start = np.asarray(network.patches.kernel[...]).reshape(12, 24)
    np.testing.assert_allclose(start[:, :12].T @ start[:, :12], np.eye(12), atol=1e-6)
    before = nnx.state(network, nnx.Param)
    network.whiten(jnp.asarray(images))
    kernel = np.asarray(network.patches.kernel[...]).reshape(12, 24)
    np.testing.assert_array_equal(kernel[:, 12:], -kernel[:, :12])
    responses = (windows(images, 2) @ kernel[:, :12]).reshape(-1, 12)
    smallest = np.linalg.eigvalsh(np.cov(windows(images, 2).reshape(-1, 12).T)).min()
    np.testing.assert_allclose(np.cov(responses.T), np.eye(12), atol=5e-4 / smallest + 1e-4)
    assert all(map(np.array_equal, *map(jax.tree.leaves, (before, nnx.state(network, nnx.Param)))))


def test_the_kernel_of_the_patches_is_no_parameter(images):
    network = QuickNet(widths=SMALL, rngs=nnx.Rngs(0))
    _, params, rest = nnx.split(network, nnx.Param, ...)
    assert set(params["patches"]) == {"bias"}
    assert type(rest["patches"]["kernel"]) is Fixed
    network.whiten(images)
    assert nnx.graphdef(network) == nnx.graphdef(QuickNet(widths=SMALL, rngs=nnx.Rngs(1)))


def test_convolutions_begin_as_the_identity():
    network = QuickNet(widths=SMALL, rngs=nnx.Rngs(0))
    for group, (before, out) in zip(network.groups, ((24, 30), (30, 8), (8, 10)), strict=True):
        for conv, inputs in ((group.conv1, before), (group.conv2, out)):
            kernel, copies = np.asarray(conv.kernel[...]), min(inputs, out)
            assert kernel.shape == (3, 3, inputs, out)
            x = np.random.default_rng(1).normal(size=(2, 5, 5, inputs)).astype("float32")
            rows = 4 if conv is group.conv1 else 5  # pooling drops the last of an odd number
            np.testing.assert_array_equal(conv(x)[..., :copies], x[:, :rows, :rows, :copies])
            if drawn := kernel[..., copies:].ravel().tolist():
                bound = (9 * inputs) ** -0.5
                assert 0.97 * bound < np.abs(drawn).max() <= bound * (1 + 1e-6)
                assert np.std(drawn) == pytest.approx(bound / np.sqrt(3), rel=0.1)


def test_outputs_in_numpy(images):
    """Batch statistics; each pooling drops the last row and column of an odd number: 31 → 15 → 7 → 3 → 1."""
    network = QuickNet(widths=SMALL, rngs=nnx.Rngs(0))
    network.whiten(images)
    biased = nnx.state(network, nnx.Param)
    for i, (path, leaf) in enumerate(nnx.to_flat_state(biased)):
        if path[-1] == "bias":
            leaf.set_value(jnp.asarray(0.3 * np.random.default_rng(i).normal(size=leaf.shape), "float32"))
    nnx.update(network, biased)

    def gelu(x):
        return x * (1 + erf(x / np.sqrt(2))) / 2

    def convolve(x, conv):
        return windows(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3) @ flat(conv)

    def flat(conv):
        return np.asarray(conv.kernel[...], "float64").reshape(-1, conv.kernel.shape[-1])

    def normalize(x, norm):
        return (x - x.mean((0, 1, 2))) / x.std((0, 1, 2)) + np.asarray(norm.bias[...])

    x, sides = gelu(windows(images, 2) @ flat(network.patches) + np.asarray(network.patches.bias[...])), []
    for group in network.groups:
        x = convolve(x, group.conv1)
        sides.append(half := x.shape[1] // 2)
        x = np.maximum.reduce([x[:, i : 2 * half : 2, j : 2 * half : 2] for i in (0, 1) for j in (0, 1)])
        x = gelu(normalize(convolve(gelu(normalize(x, group.norm1)), group.conv2), group.norm2))
    assert sides == [15, 7, 3]
    want = x.max((1, 2)) @ np.asarray(network.head.kernel[...]) / 9
    got = nnx.jit(lambda network, x: network(x))(network, images)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=2e-4)
    short = QuickNet(widths=SMALL, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    nnx.update(short, nnx.state(network, (nnx.Param, Fixed)))
    got = nnx.jit(lambda network, x: network(x))(short, images)
    assert got.dtype == jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(nnx.state(short))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(got.astype("float32"), want, atol=0.2 * np.abs(want).max())


def test_derivatives_of_pooling_and_gelu():
    """Against those of the library, with ties, whose gradient is shared."""
    x = jnp.asarray(np.random.default_rng(0).integers(-3, 4, (3, 6, 4, 2)), "float32") / 2
    y = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 2, 2)), "float32")
    ours, theirs = (
        jax.grad(lambda x, f=f: jnp.sum(f(x) * y))(x)
        for f in (_pooled, lambda x: x.reshape(3, 3, 2, 2, 2, 2).max((2, 4)))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    ours, theirs = (
        jax.value_and_grad(lambda x, f=f: jnp.sum(f(x) * x))(x)
        for f in (_gelu, lambda x: jax.nn.gelu(x, approximate=False))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


def test_running_statistics_follow_those_of_a_batch(images):
    network = QuickNet(widths=SMALL, rngs=nnx.Rngs(0))
    norm, x = network.groups[0].norm1, np.asarray(images).repeat(10, 3)
    norm(x)
    np.testing.assert_allclose(norm.mean[...], 0.4 * x.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.6 + 0.4 * x.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_filters_without_weights_have_no_gradient(dtype, images):
    """Sparse training may leave them. The next convolution has filters that copy their constant output."""
    network = QuickNet(widths=SMALL, dtype=dtype, rngs=nnx.Rngs(0))
    kernel = network.groups[1].conv2.kernel
    kernel.set_value(kernel[...].at[..., :3].set(0))
    graph, params, rest = nnx.split(network, nnx.Param, ...)

    @jax.jit
    @jax.grad
    def gradient(params):
        logs = jax.nn.log_softmax(nnx.merge(graph, params, rest, copy=True)(images).astype("float32"))
        return -logs[:, :5].mean()

    grads = gradient(params)
    assert all(float(jnp.abs(leaf).max()) < 10 for leaf in jax.tree.leaves(grads))
    found = np.abs(np.asarray(grads["groups"][1]["conv2"]["kernel"][...])).max((0, 1, 2))
    assert found[:3].tolist() == [0, 0, 0]
    assert found[3:].min() > 0
    assert float(jnp.abs(grads["groups"][1]["norm2"]["bias"][:3]).min()) > 0


def test_errors():
    network = QuickNet(widths=(2, 2, 2), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"^x must have shape \(n, 32, 32, 3\), got \(1, 28, 28, 3\)$"):
        network(jnp.zeros((1, 28, 28, 3)))
    with pytest.raises(ValueError, match=r"^images must have shape \(n, 32, 32, 3\), got \(32, 32, 3\)$"):
        network.whiten(np.zeros((32, 32, 3)))
    with pytest.raises(ValueError, match=r"^images must hold at least one image, got none$"):
        network.whiten(np.zeros((0, 32, 32, 3)))
    with pytest.raises(ValueError, match=r"^widths must be 3 numbers, got \(1, 2\)$"):
        QuickNet(widths=(1, 2), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"^widths must be a whole number >= 1, got \(1, 0, 2\)$"):
        QuickNet(widths=(1, 0, 2), rngs=nnx.Rngs(0))
