"""Networks without their idle units: the same scores from fewer numbers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from rvsmjax import _checks
from rvsmjax.nets.lenet import LeNet
from rvsmjax.nets.vgg import VGG16

Net = TypeVar("Net", LeNet, VGG16)


def shrink(network: Net) -> Net:
    """Returns a network of the same kind with fewer units and, in evaluation, the same scores up to rounding.

    Two sorts of units go: those without weights into them, which give the same number for every input, and those
    without weights out of them, which nobody sees. What a unit of the first sort gives (its bias, or the shift of its
    norm, may be positive) is added to the bias, or taken from the running mean, of the layer behind it. Where that is a
    convolution that sees zeros around the image, no bias does the same at the edges: there one such unit stays, and
    speaks for all.

    Args:
      network: ``LeNet`` or ``VGG16``, with u for its parameters and the running means that go with u.

    Returns:
      A network with ``widths`` (LeNet) or ``channels`` (VGG16) of its own; every layer keeps one unit at least. In
      training its batches would be normalised by other means, so fine-tune before, or after.

    Raises:
      TypeError: a network of another kind.

    Example:
      >>> net = LeNet(rngs=nnx.Rngs(0))
      >>> net.conv1.kernel[...] = net.conv1.kernel[...].at[..., 5:].set(0)
      >>> shrink(net).conv1.kernel.shape
      (5, 5, 1, 5)
    """
    copy = nnx.clone(network)
    layers = _layers(copy)
    for layer, behind in itertools.pairwise(layers):
        idle = np.asarray(~np.any(layer.weights, (0, 1)))
        given = np.where(idle, layer.idle_output(), 0)
        if behind.sees_edges and given.any():
            speaker = np.argmax(np.abs(given))
            behind.weights[:, speaker] = np.einsum("i,tio->to", given / given[speaker], behind.weights)
            idle[speaker] = False
        elif given.any():
            behind.add(np.einsum("i,tio->o", given, behind.weights))
        behind.weights[:, idle] = 0
    for layer, behind in reversed(list(itertools.pairwise(layers))):
        seen = np.asarray(np.any(behind.weights, (0, 2)))
        seen[0] |= not seen.any()
        layer.weights, behind.weights = layer.weights[:, :, seen], behind.weights[:, seen]
        layer.take(seen)
    for layer in layers:
        layer.write()
    return copy


@dataclasses.dataclass
class _Layer:
    """A linear map and what comes between it and the next.

    Attributes:
      module: the map.
      norm: of what it gives, or None.
      respond: what the units of the layer give of what the map gives, in evaluation.
      places: how many numbers of the input belong to one unit of the layer before, its kernel's window apart.
      sees_edges: whether the map is a convolution that sees zeros around the image.
      weights: in float64, of shape (places or window, units before, units).
    """

    module: nnx.Conv | nnx.Linear
    norm: nnx.BatchNorm | None
    respond: Callable[[Array], Array]
    places: int = 1
    sees_edges: bool = False
    weights: np.ndarray = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        kernel = np.array(self.module.kernel[...], np.float64)
        # Window and units before, or places and units before, are the leading axes.
        inputs = kernel.shape[-2] // self.places
        self.weights = kernel.reshape(-1, inputs, kernel.shape[-1])

    def idle_output(self) -> np.ndarray:
        """What a unit gives where its weights are 0."""
        dtype = self.module.kernel[...].dtype
        return np.asarray(self.respond(jnp.zeros((1, self.weights.shape[-1]), dtype))[0], np.float64)

    def add(self, shift: np.ndarray) -> None:
        """Adds to what the map gives."""
        bias = self.module.bias if self.norm is None else self.norm.mean
        assert bias is not None  # of the networks below, each layer without norm has one
        sign = 1 if self.norm is None else -1
        _set(bias, np.asarray(bias[...], np.float64) + sign * shift)

    def take(self, units: np.ndarray) -> None:
        """Keeps the numbers of some units, apart from the weights."""
        norm = self.norm
        for numbers in (self.module.bias, *((norm.mean, norm.var, norm.scale, norm.bias) if norm else ())):
            if numbers is not None:
                _set(numbers, numbers[...][units])

    def write(self) -> None:
        """Puts the weights into the module, and their sizes."""
        module, (_, inputs, units) = self.module, self.weights.shape
        shape = (*module.kernel.shape[:-2], inputs * self.places, units)
        _set(module.kernel, self.weights.reshape(shape))
        module.in_features, module.out_features = shape[-2:]
        if isinstance(module, nnx.Conv):
            module.kernel_shape = shape
        if self.norm is not None:
            self.norm.num_features = units


def _set(variable: nnx.Variable[Array], array: np.ndarray | Array) -> None:
    variable.set_value(jnp.asarray(array, variable[...].dtype))


def _layers(network: LeNet | VGG16) -> list[_Layer]:
    """Returns the layers from the image to the scores."""
    if isinstance(network, LeNet):
        return _lenet_layers(network)
    if isinstance(network, VGG16):
        return _vgg_layers(network)
    raise TypeError(f"network must be a LeNet or a VGG16, got {_checks.show(type(network))}")


def _lenet_layers(net: LeNet) -> list[_Layer]:
    def unit(module: nnx.Conv | nnx.Linear, norm: nnx.BatchNorm | None) -> Callable[[Array], Array]:
        return lambda x: net.activation(_biased(module, _normed(norm, x)))

    modules: tuple[nnx.Conv | nnx.Linear, ...] = (net.conv1, net.conv2, net.dense1)
    norms: Iterable[nnx.BatchNorm | None] = net.norms or (None,) * len(modules)
    places = (1, 1, net.dense1.in_features // net.conv2.out_features)
    layers = [_Layer(m, norm, unit(m, norm), p) for m, norm, p in zip(modules, norms, places, strict=True)]
    return [*layers, _Layer(net.dense2, None, lambda x: x)]


def _vgg_layers(net: VGG16) -> list[_Layer]:
    def unit(module: nnx.Conv, norm: nnx.BatchNorm) -> Callable[[Array], Array]:
        return lambda x: jax.nn.relu(_normed(norm, _biased(module, x)))

    pairs: Iterable[tuple[nnx.Conv, nnx.BatchNorm]] = zip(net.convs, net.norms, strict=True)
    return [*(_Layer(m, norm, unit(m, norm), 1, True) for m, norm in pairs), _Layer(net.head, None, lambda x: x)]


def _biased(module: nnx.Conv | nnx.Linear, x: Array) -> Array:
    return x if module.bias is None else x + module.bias[...]


def _normed(norm: nnx.BatchNorm | None, x: Array) -> Array:
    return x if norm is None else norm(x, use_running_average=True)
