"""Shrunk networks have the same outputs, to rounding in float64, and no idle units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rvsmjax as rv
from rvsmjax.nets import VGG16, LeNet, ResNet, shrink


def random_network(kind, kept="float64", **options):
    """Returns a network in evaluation mode with biases, running means, shifts and scales of both signs."""
    network = nnx.eval_shape(lambda: kind(rngs=nnx.Rngs(0), **options))
    for index, (path, leaf) in enumerate(nnx.to_flat_state(nnx.state(network, (nnx.Param, nnx.BatchStat)))):
        x = np.random.default_rng(index).normal(size=leaf.shape)
        kernel = path[-1] == "kernel"
        x = x / np.sqrt(np.prod(x.shape[:-1])) if kernel else np.abs(x) if path[-1] == "var" else 0.4 * x
        leaf.set_value(jnp.asarray(x, kept))
    network.eval()
    return network


def parts(network):
    """Returns the linear maps, from input to output."""
    if isinstance(network, LeNet):
        return network.maps
    return [*network.convs, network.head]


def change(variable, index, values):
    """Writes values at an index in NumPy, which compiles nothing."""
    array = np.array(variable[...])
    array[index] = values
    variable.set_value(jnp.asarray(array))


def set_idle(network, into=(), out_of=()):
    """Zeroes the weights into and out of the given units, as ``{layer: units}``."""
    maps = parts(network)
    for layer, units in dict(into).items():
        change(maps[layer].kernel, (..., np.asarray(units)), 0)
    for layer, units in dict(out_of).items():
        inputs, width = np.arange(maps[layer + 1].kernel.shape[-2]), maps[layer].kernel.shape[-1]
        change(maps[layer + 1].kernel, (..., np.isin(inputs % width, units), slice(None)), 0)
    return network


def widths(network):
    return [part.kernel.shape[-1] for part in parts(network)[:-1]]


def scores(network, dtype="float64", count=6):
    shape = (28, 28, 1) if isinstance(network, LeNet) else (32, 32, 3)
    x = np.random.default_rng(99).normal(size=(count, *shape)).astype(dtype)
    return np.asarray(nnx.jit(lambda net, x: net(x))(network, jnp.asarray(x)))


LENETS = [
    {"activation": activation, "normalize": normalize} for activation in ("relu", "binary") for normalize in (0, 1)
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("options", LENETS, ids=lambda o: f"{o['activation']}-{'norm' if o['normalize'] else 'plain'}")
def test_lenet(options):
    net = random_network(LeNet, widths=(6, 8, 12), **options)
    set_idle(net, into={0: [1, 4], 1: [0, 1, 7], 2: [2, 3, 11]}, out_of={0: [0], 1: [2, 7], 2: [5]})
    small = shrink(net)
    assert widths(small) == [3, 4, 8]
    assert widths(net) == [6, 8, 12]
    np.testing.assert_allclose(scores(small), scores(net), rtol=1e-11, atol=1e-11)
    assert np.ptp(scores(net), 0).max() > 1e-3  # the images are distinguished


@pytest.mark.usefixtures("x64")
def test_lenet_with_two_hidden_layers_and_pooling_after_the_activation():
    net = random_network(LeNet, activation="binary", widths=(6, 8, 12, 7), pooling="after")
    set_idle(net, into={0: [1, 4], 1: [0], 2: [2, 3], 3: [6]}, out_of={0: [0], 1: [2, 7], 3: [5]})
    small = shrink(net)
    assert widths(small) == [3, 5, 10, 5]
    np.testing.assert_allclose(scores(small), scores(net), rtol=1e-11, atol=1e-11)
    assert np.ptp(scores(net), 0).max() > 1e-3


@pytest.mark.usefixtures("x64")
def test_vgg_at_the_edges_of_the_image():
    """Idle units output the shift of their norm; next to zero padding no bias of the next layer has the same effect."""
    net = random_network(VGG16, width=8)
    shifts = {0: [0.5, -0.3, 0.8], 1: [0.7], 2: [-1.0], 5: [1.0, 0.2, -0.4, 0.6], 12: [0.3, 0.4, -0.5]}
    for layer, values in shifts.items():
        conv, norm, idle = net.convs[layer], net.norms[layer], np.arange(len(values))
        change(norm.mean, idle, np.asarray(conv.bias[...])[idle])  # like trained running means
        change(norm.bias, idle, values)
    set_idle(net, into={layer: range(len(values)) for layer, values in shifts.items()}, out_of={3: [4, 5], 12: [9]})
    small = shrink(net)
    gone = np.array(widths(net)) - np.array(widths(small))
    # One unit with a positive shift stays, except before the last layer, which has no padding.
    assert {layer: int(count) for layer, count in enumerate(gone) if count} == {0: 2, 2: 1, 3: 2, 5: 3, 12: 4}
    np.testing.assert_allclose(scores(small), scores(net), rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_units_that_become_idle_are_removed_too():
    """Units 0 and 1 of layer 2 have only an idle unit as input, and are the only outputs of unit 2 of layer 1."""
    net = random_network(LeNet, widths=(4, 5, 6))
    set_idle(net, into={0: [3]})
    change(net.conv2.kernel, np.s_[:, :, :3, :2], 0)
    change(net.conv2.kernel, np.s_[:, :, 2, 2:], 0)
    small = shrink(net)
    assert widths(small) == [2, 3, 6]
    np.testing.assert_allclose(scores(small), scores(net), rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("kind", "options", "layer"),
    [(LeNet, {"widths": (3, 4, 5)}, 0), (LeNet, {"widths": (3, 4, 5)}, 2), (VGG16, {"width": 2}, 1)],
)
def test_a_layer_of_idle_units_keeps_one(kind, options, layer):
    net = random_network(kind, **options)
    set_idle(net, into={layer: range(widths(net)[layer])})
    small = shrink(net)
    assert widths(small)[layer] == 1
    np.testing.assert_allclose(scores(small), scores(net), rtol=1e-10, atol=1e-10)


def test_a_network_without_idle_units_is_unchanged():
    net = random_network(LeNet, normalize=True, kept="float32")
    for a, b in zip(jax.tree.leaves(nnx.state(net)), jax.tree.leaves(nnx.state(shrink(net))), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_smaller_network_can_be_rebuilt_from_its_widths():
    """It can be rebuilt and loaded from a file."""
    net = random_network(LeNet, kept="float32")
    set_idle(net, into={0: range(9), 1: range(30), 2: range(400)})
    small, made = shrink(net), LeNet(widths=(11, 20, 100), rngs=nnx.Rngs(1))
    made.eval()
    assert nnx.graphdef(small) == nnx.graphdef(made)
    nnx.update(made, nnx.state(small))
    np.testing.assert_array_equal(scores(made, "float32"), scores(small, "float32"))
    thin = set_idle(random_network(VGG16, width=4, kept="float32"), out_of={0: [2]})
    channels = [3, *widths(thin)[1:]]
    assert widths(shrink(thin)) == channels
    assert nnx.graphdef(shrink(thin)) == nnx.graphdef(random_network(VGG16, channels=channels, kept="float32"))


def test_u_of_group_penalties_shrinks():
    """From rvsm to a smaller network: u with whole zero filters is written into the network, which shrinks."""
    net = random_network(LeNet, kept="float32")
    params = nnx.state(net, nnx.Param)
    units = rv.rvsm(rv.Grouped(rv.TopK(sparsity=0.5), axes="filters"), 1.0, 1.0, overrides={"dense2": None})
    u = rv.sparse_params(units.init(params), params)
    nnx.update(net, u)
    small = shrink(net)
    assert widths(small) == [10, 25, 250]
    np.testing.assert_allclose(scores(small, "float32"), scores(net, "float32"), rtol=1e-4, atol=1e-5)


def test_errors():
    with pytest.raises(TypeError, match=r"^network must be a LeNet or a VGG, got .*ResNet"):
        shrink(ResNet(blocks=(1,), width=2, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"^widths must be 3 or 4 numbers, got \(1, 2\)$"):
        LeNet(widths=(1, 2), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"^widths must be a whole number >= 1, got \(1, 0, 2\)$"):
        LeNet(widths=(1, 0, 2), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"^channels must be 13 numbers, got \[1\]$"):
        VGG16(channels=[1], rngs=nnx.Rngs(0))
