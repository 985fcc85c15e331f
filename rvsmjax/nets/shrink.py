"""Removal of idle units: a smaller network with the same outputs."""

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
from rvsmjax.nets.vgg import VGG

Net = TypeVar("Net", LeNet, VGG)


def shrink(network: Net) -> Net:
    """Returns a network of the same class with fewer units and, in evaluation mode, the same outputs up to rounding.

    Removes units without incoming weights, whose output is constant, and units without outgoing weights. A constant
    output (a positive bias or norm shift) is folded into the bias of the next layer, or subtracted from its running
    mean. If the next layer is a zero-padded convolution, no bias has the same effect at the image edges; one constant
    unit is then kept to represent them all.

    Args:
      network: ``LeNet`` or ``VGG`` with u as its parameters, and running statistics computed with u.

    Returns:
      A network with smaller ``widths`` (LeNet) or ``channels`` (VGG); every layer keeps at least one unit. In
      training mode its batch statistics differ from those of ``network``, so fine-tune either before or after.

    Raises:
      TypeError: if ``network`` is neither.

    Example:
      >>> net = LeNet(rngs=nnx.Rngs(0))
      >>> net.conv1.kernel[...] = net.conv1.kernel[...].at[..., 5:].set(0)
      >>> shrink(net).conv1.kernel.shape
      (5, 5, 1, 5)
    """
    copy = nnx.clone(network)
    layers = _layers(copy)
    for layer, after in itertools.pairwise(layers):
        idle = np.asarray(~np.any(layer.weights, (0, 1)))
        constant = np.where(idle, layer.idle_output(), 0)
        if after.padded and constant.any():
            kept = np.argmax(np.abs(constant))
            after.weights[:, kept] = np.einsum("i,tio->to", constant / constant[kept], after.weights)
            idle[kept] = False
        elif constant.any():
            after.add(np.einsum("i,tio->o", constant, after.weights))
        after.weights[:, idle] = 0
    for layer, after in reversed(list(itertools.pairwise(layers))):
        used = np.asarray(np.any(after.weights, (0, 2)))
        used[0] |= not used.any()
        layer.weights, after.weights = layer.weights[:, :, used], after.weights[:, used]
        layer.keep(used)
    for layer in layers:
        layer.write()
    return copy


@dataclasses.dataclass
class _Layer:
    """A linear map with its normalization and activation.

    Attributes:
      module: the linear map.
      norm: batch normalization of the map's output, or None.
      respond: maps the output of ``module`` to the layer's activations, in evaluation mode.
      pixels: inputs per unit of the previous layer (> 1 where a linear layer follows a flattened convolution).
      padded: whether ``module`` is a zero-padded convolution.
      weights: float64, of shape (pixels or window, units of the previous layer, units).
    """

    module: nnx.Conv | nnx.Linear
    norm: nnx.BatchNorm | None
    respond: Callable[[Array], Array]
    pixels: int = 1
    padded: bool = False
    weights: np.ndarray = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        kernel = np.array(self.module.kernel[...], np.float64)
        # The leading axes are (window, previous units) or (pixels, previous units).
        inputs = kernel.shape[-2] // self.pixels
        self.weights = kernel.reshape(-1, inputs, kernel.shape[-1])

    def idle_output(self) -> np.ndarray:
        """Returns the activation of each unit for zero weights."""
        dtype = self.module.kernel[...].dtype
        return np.asarray(self.respond(jnp.zeros((1, self.weights.shape[-1]), dtype))[0], np.float64)

    def add(self, shift: np.ndarray) -> None:
        """Adds ``shift`` to the output of the linear map."""
        bias = self.module.bias if self.norm is None else self.norm.mean
        assert bias is not None  # every layer without a norm has a bias in the networks below
        sign = 1 if self.norm is None else -1
        _set(bias, np.asarray(bias[...], np.float64) + sign * shift)

    def keep(self, units: np.ndarray) -> None:
        """Restricts biases and norm statistics to ``units``; the weights are unchanged."""
        norm = self.norm
        for variable in (self.module.bias, *((norm.mean, norm.var, norm.scale, norm.bias) if norm else ())):
            if variable is not None:
                _set(variable, variable[...][units])

    def write(self) -> None:
        """Writes the weights and sizes to the module."""
        module, (_, inputs, units) = self.module, self.weights.shape
        shape = (*module.kernel.shape[:-2], inputs * self.pixels, units)
        _set(module.kernel, self.weights.reshape(shape))
        module.in_features, module.out_features = shape[-2:]
        if isinstance(module, nnx.Conv):
            module.kernel_shape = shape
        if self.norm is not None:
            self.norm.num_features = units


def _set(variable: nnx.Variable[Array], array: np.ndarray | Array) -> None:
    variable.set_value(jnp.asarray(array, variable[...].dtype))


def _layers(network: LeNet | VGG) -> list[_Layer]:
    """Returns the layers from input to output."""
    if isinstance(network, LeNet):
        return _lenet_layers(network)
    if isinstance(network, VGG):
        return _vgg_layers(network)
    raise TypeError(f"network must be a LeNet or a VGG, got {_checks.show(type(network))}")


def _lenet_layers(net: LeNet) -> list[_Layer]:
    def unit(module: nnx.Conv | nnx.Linear, norm: nnx.BatchNorm | None) -> Callable[[Array], Array]:
        return lambda x: net.activation(_biased(module, _normed(norm, x)))

    *modules, last = net.maps
    norms: Iterable[nnx.BatchNorm | None] = net.norms or (None,) * len(modules)
    pixels = (1, 1, net.dense1.in_features // net.conv2.out_features, 1)[: len(modules)]
    layers = [_Layer(m, norm, unit(m, norm), p) for m, norm, p in zip(modules, norms, pixels, strict=True)]
    return [*layers, _Layer(last, None, lambda x: x)]


def _vgg_layers(net: VGG) -> list[_Layer]:
    def unit(module: nnx.Conv, norm: nnx.BatchNorm) -> Callable[[Array], Array]:
        return lambda x: jax.nn.relu(_normed(norm, _biased(module, x)))

    pairs: Iterable[tuple[nnx.Conv, nnx.BatchNorm]] = zip(net.convs, net.norms, strict=True)
    return [*(_Layer(m, norm, unit(m, norm), 1, True) for m, norm in pairs), _Layer(net.head, None, lambda x: x)]


def _biased(module: nnx.Conv | nnx.Linear, x: Array) -> Array:
    return x if module.bias is None else x + module.bias[...]


def _normed(norm: nnx.BatchNorm | None, x: Array) -> Array:
    return x if norm is None else norm(x, use_running_average=True)
