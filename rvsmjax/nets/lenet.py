"""LeNet for 28 × 28 images, by default with 20-50-500-10 units, as used in the pruning literature."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from rvsmjax import _checks
from rvsmjax.nets.batch_norm import BatchNorm
from rvsmjax.nets.binary import STE, binary
from rvsmjax.nets.resnet import LECUN, UNIFORM, uniform

WIDTHS = (20, 50, 500)
"""Channels of the two convolutions and units of the hidden linear layer."""
GLOROT = jax.nn.initializers.glorot_uniform()


class LeNet(nnx.Module):
    """Two 5 × 5 convolutions, each max-pooled by 2, one or two hidden linear layers, and 10 classes.

    431,080 parameters by default; 44,426 with ``widths=(6, 16, 120, 84)``.

    Args:
      widths: channels of the two convolutions and units of one or two hidden layers, each >= 1.
      activation: ``"relu"``, or ``"binary"`` for the units of F.
      ste: straight-through estimator of a binary unit, see ``binary``.
      ste_scale: scale of that estimator, > 0.
      pooling: ``"before"`` the activation, a quarter of the work, or ``"after"`` it. The outputs are the same, as the
        activation is monotone, and so are the derivatives with ``"relu"``. Not so through a straight-through estimator:
        binary outputs tie, and of a window's largest the first receives the derivative, as in PyTorch.
      init: ``"lecun"``, Flax's default, with biases 0, or ``"torch"``, PyTorch's, see ``ResNet``.
      normalize: whether to normalize pre-activations (before the bias) to mean 0 and variance 1 over the batch;
        evaluation uses running statistics. Adds no parameters.
      rngs: random streams for the weights.

    Raises:
      ValueError: if ``activation``, ``ste``, ``pooling`` or ``init`` is unknown, ``ste_scale`` <= 0, or ``widths``
        is not three or four numbers >= 1.

    Source: F Table 1 ("a variation of LeNet"); that with four widths: the authors' released code.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = WIDTHS,
        activation: Literal["relu", "binary"] = "relu",
        ste: STE = "relu",
        ste_scale: ArrayLike = 1.0,
        pooling: Literal["before", "after"] = "before",
        init: Literal["lecun", "torch"] = "lecun",
        normalize: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        for name, value, choices in (
            ("activation", activation, ("relu", "binary")),
            ("pooling", pooling, ("before", "after")),
            ("init", init, ("lecun", "torch")),
        ):
            _checks.one_of(name, value, choices)
        _checks.integer("widths", tuple(widths), at_least=1)
        if len(widths) not in (3, 4):
            raise ValueError(f"widths must be 3 or 4 numbers, got {tuple(widths)}")
        binary(0.0, ste, ste_scale)  # checks both arguments
        # No closures as attributes: networks with the same settings then compare equal and share compiled code.
        self.ste, self.ste_scale = (ste if activation == "binary" else None), ste_scale
        self.pooling = pooling

        def initial(inputs: int) -> dict[str, Any]:
            own = {"kernel_init": UNIFORM, "bias_init": uniform(inputs)} if init == "torch" else {}
            return {"rngs": rngs} | own

        first, second, *hidden = widths
        self.conv1 = nnx.Conv(1, first, (5, 5), padding="VALID", **initial(25))
        self.conv2 = nnx.Conv(first, second, (5, 5), padding="VALID", **initial(25 * first))
        sizes = [16 * second, *hidden, 10]
        self.dense1, self.dense2, *more = [nnx.Linear(i, o, **initial(i)) for i, o in itertools.pairwise(sizes)]
        self.dense3 = more[0] if more else None
        norm = functools.partial(BatchNorm, use_bias=False, use_scale=False, momentum=0.9, rngs=rngs)
        self.norms = nnx.List(map(norm, widths if normalize else ()))

    @property
    def maps(self) -> list[nnx.Conv | nnx.Linear]:
        """The linear maps, from input to output."""
        every = (self.conv1, self.conv2, self.dense1, self.dense2, self.dense3)
        return [layer for layer in every if layer is not None]

    def __call__(self, x: Array) -> Array:
        """Returns logits of shape (n, 10) for images of shape (n, 28, 28, 1)."""
        if x.ndim != 4 or x.shape[1:] != (28, 28, 1):
            raise ValueError(f"x must have shape (n, 28, 28, 1), got {x.shape}")
        for i, conv in enumerate((self.conv1, self.conv2)):
            windows = conv_windows(x, conv.kernel[...])
            if self.pooling == "before":
                x = self._unit(i, windows.max(3), conv.bias)
            else:
                x = self.activation(first_largest(self._shifted(i, windows, conv.bias), self.activation))
        x = x.reshape(len(x), -1)
        *hidden, last = self.maps[2:]
        for i, dense in enumerate(hidden, 2):
            x = self._unit(i, x @ dense.kernel[...], dense.bias)
        return last(x)

    def activation(self, x: Array) -> Array:
        """Applies the activation function."""
        return jax.nn.relu(x) if self.ste is None else binary(x, self.ste, self.ste_scale)

    def _unit(self, layer: int, x: Array, bias: nnx.Param[Array] | None) -> Array:
        return self.activation(self._shifted(layer, x, bias))

    def _shifted(self, layer: int, x: Array, bias: nnx.Param[Array] | None) -> Array:
        """Returns the pre-activations of the outputs of a linear map."""
        if self.norms:
            x = self.norms[layer](x)
        return x if bias is None else x + bias[...]


class LeNet300(nnx.Module):
    """LeNet-300-100: two hidden linear layers, 266,610 parameters. For images of shape (n, 28, 28, 1).

    Args:
      init: initialization of the kernels, ``"lecun"``, Flax's default, or ``"glorot"``, uniform, TensorFlow's.
      rngs: random streams for the weights.

    Raises:
      ValueError: if ``init`` is unknown.

    Source: Y. LeCun et al., Gradient-based learning applied to document recognition, section III.C.3.
    """

    def __init__(self, *, init: Literal["lecun", "glorot"] = "lecun", rngs: nnx.Rngs) -> None:
        _checks.one_of("init", init, ("lecun", "glorot"))
        linear = functools.partial(nnx.Linear, kernel_init=LECUN if init == "lecun" else GLOROT, rngs=rngs)
        self.dense1, self.dense2, self.dense3 = linear(28 * 28, 300), linear(300, 100), linear(100, 10)

    def __call__(self, x: Array) -> Array:
        """Returns logits of shape (n, 10) for images of shape (n, 28, 28, 1)."""
        if x.ndim != 4 or x.shape[1:] != (28, 28, 1):
            raise ValueError(f"x must have shape (n, 28, 28, 1), got {x.shape}")
        x = jax.nn.relu(self.dense1(x.reshape(len(x), -1)))
        return self.dense3(jax.nn.relu(self.dense2(x)))


def conv_pooled(x: Array, kernel: Array) -> Array:
    """Returns a convolution without padding or bias, followed by 2 × 2 max pooling: the maxima of ``conv_windows``."""
    return conv_windows(x, kernel).max(3)


def first_largest(windows: Array, activation: Callable[[Array], Array]) -> Array:
    """Returns of the fourth axis the element with the largest activation, of several the first.

    Its activation is the maximum of the activations, as its derivative is if that goes to the first of equal values.
    """
    elements = (windows[:, :, :, i] for i in range(windows.shape[3]))
    return functools.reduce(lambda a, b: jnp.where(activation(b) > activation(a), b, a), elements)


def conv_windows(x: Array, kernel: Array) -> Array:
    """Returns a convolution without padding or bias, its outputs sorted by the windows of 2 × 2 max pooling.

    The four outputs of each pooling window are computed at once, as channels of one matrix product over 2 × 2 pixel
    patches: 9 slices are concatenated instead of 25. On a CPU this is 2.5 times as fast as XLA's convolution, also
    inside loops, and ``vmap`` over kernels turns it into a batched matrix product instead of a grouped convolution.

    Args:
      x: shape (n, h, w, c), h and w even.
      kernel: shape (k, k, c, o), k odd.

    Returns:
      Shape (n, (h - k + 1) / 2, (w - k + 1) / 2, 4, o); the four outputs of a window row by row.
    """
    n, h, w, c = x.shape
    k, _, _, o = kernel.shape
    cells, side = (k + 1) // 2, (k + 1, k + 1)
    x = x.reshape(n, h // 2, 2, w // 2, 2, c).swapaxes(2, 3).reshape(n, h // 2, w // 2, 4 * c)
    h, w = h // 2 - cells + 1, w // 2 - cells + 1
    patches = jnp.concatenate([x[:, i : i + h, j : j + w] for i in range(cells) for j in range(cells)], -1)
    shifted = [jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in (0, 1) for j in (0, 1)]
    square = jnp.stack(shifted, -2).reshape(*side, c, 4 * o).reshape(cells, 2, cells, 2, c, 4 * o)
    columns = square.swapaxes(1, 2).reshape(-1, 4 * o)
    return (patches.reshape(n * h * w, -1) @ columns).reshape(n, h, w, 4, o)
