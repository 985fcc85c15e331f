"""A small network that learns CIFAR-10 in a few epochs."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from rvsmjax import _checks
from rvsmjax.nets.batch_norm import BatchNorm
from rvsmjax.nets.convolution import convolve
from rvsmjax.nets.resnet import UNIFORM

SCALE = 1 / 9
"""Factor of the logits."""
REGULAR = 5e-4
"""Added to the eigenvalues by ``QuickNet.whiten``."""


CONSTANT = 1e-6
"""Variance of a channel that counts as constant, as a multiple of its mean square."""


class Fixed(nnx.Variable[Array]):
    """An array that is not trained."""


class QuickNet(nnx.Module):
    """Whitened 2 × 2 patches, six batch-normalized 3 × 3 convolutions with GELU, max poolings, and a linear layer.

    1,971,352 parameters with the defaults. The kernel of the first convolution, 24 filters of 2 × 2, is not trained:
    ``whiten`` computes it from images, and until then it is orthogonal. Each of three groups halves the image between
    its two convolutions, whose first filters are initialized to copy an input channel each. The norms have biases but
    no scales, and their running statistics are averages over a few steps. The logits are divided by 9.

    Args:
      widths: channels of the three groups, each >= 1.
      classes: number of classes, >= 1.
      dtype: dtype of the computation; parameters and running statistics are float32.
      rngs: random streams for the weights.

    Raises:
      ValueError: if a number is < 1 or ``widths`` is not three numbers; when called, if ``x`` does not have shape
        (n, 32, 32, 3).

    Source: airbench94 of K. Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (arXiv 2404.00498), but for the
    epsilon of the norms, see ``Norm``.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (64, 256, 256),
        classes: int = 10,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        _checks.integer("widths", widths, at_least=1)
        if len(widths) != 3:
            raise ValueError(f"widths must be 3 numbers, got {widths}")
        _checks.integer("classes", classes, at_least=1)
        patches: Any = nnx.Conv(  # whose kernel is annotated as a parameter
            3, 24, (2, 2), padding="VALID", kernel_init=_haar, conv_general_dilated=convolve, dtype=dtype, rngs=rngs
        )
        patches.kernel = Fixed(patches.kernel[...])
        self.patches = patches
        sizes = zip((24, *widths), widths, strict=False)
        self.groups = nnx.List([Group(before, out, dtype=dtype, rngs=rngs) for before, out in sizes])
        self.head = nnx.Linear(widths[-1], classes, use_bias=False, kernel_init=UNIFORM, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Returns logits of shape (n, classes) for images of shape (n, 32, 32, 3)."""
        _check_images("x", x)
        x = _gelu(self.patches(x))
        for group in self.groups:
            x = group(x)
        return self.head(x.max((1, 2))) * SCALE

    def whiten(self, images: ArrayLike) -> None:
        """Sets the first kernel so that its outputs for the images are uncorrelated with variance 1.

        Its filters are the eigenvectors of the covariance of all 2 × 2 patches, each divided by the root of its
        eigenvalue + 5e-4, and their negatives.

        Args:
          images: shape (n, 32, 32, 3), prepared like those that the network is trained on; a few thousand are enough.

        Raises:
          ValueError: if ``images`` has another shape or holds no image.
        """
        images = np.asarray(images, np.float32)
        _check_images("images", images)
        if not len(images):
            raise ValueError("images must hold at least one image, got none")
        views = [images[:, i : i + 31, j : j + 31].reshape(-1, 3) for i in (0, 1) for j in (0, 1)]
        patches = np.concatenate(views, 1)
        patches = patches - patches.mean(0, dtype=np.float64).astype(np.float32)
        values, vectors = np.linalg.eigh((patches.T @ patches).astype(np.float64) / len(patches))
        self.patches.kernel.set_value(_both_signs(vectors / np.sqrt(values + REGULAR)))


class Group(nnx.Module):
    """A convolution, max pooling and a convolution, each of the convolutions normalized and followed by GELU.

    The image has an odd number of rows and columns. Pooling would drop the last of each, so the first convolution does
    not compute them.
    """

    def __init__(self, channels: int, out: int, *, dtype: DTypeLike | None, rngs: nnx.Rngs) -> None:
        def convolution(before: int, after: int) -> nnx.Conv:
            return nnx.Conv(
                before,
                out,
                (3, 3),
                padding=((1, after),) * 2,
                use_bias=False,
                kernel_init=_identity_first,
                conv_general_dilated=convolve,
                dtype=dtype,
                rngs=rngs,
            )

        def norm() -> Norm:
            return Norm(out, use_scale=False, momentum=0.6, epsilon=1e-5, dtype=dtype, rngs=rngs)

        self.conv1, self.norm1 = convolution(channels, 0), norm()
        self.conv2, self.norm2 = convolution(out, 1), norm()

    def __call__(self, x: Array) -> Array:
        """Returns shape (n, h // 2, w // 2, out)."""
        x = _gelu(self.norm1(_pooled(self.conv1(x))))
        return _gelu(self.norm2(self.conv2(x)))


class Norm(BatchNorm):
    """Batch normalization without scales, and without a gradient for channels that are constant.

    Sparse training may leave filters without weights, or with constant inputs alone. Their output has no variance, and
    the norm multiplies their gradient by the root of 1/epsilon. The epsilon is 1e-5, where the source has 1e-12 and the
    rounding errors of such channels would be multiplied by a million, too. Other variances are much larger than both.
    """

    def __call__(self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None) -> Array:
        """Returns the normalized ``x``, of the same shape."""
        values, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
        square = jnp.square(values).mean(axes)
        varies = square - jnp.square(values.mean(axes)) > CONSTANT * square
        x = jnp.where(varies, x, jax.lax.stop_gradient(x))
        return super().__call__(x, use_running_average, mask=mask)


@jax.custom_jvp
def _gelu(x: Array) -> Array:
    """Returns x·Φ(x) with the normal distribution Φ. Its derivative, from the density, is faster than Flax's."""
    values = x.astype(jnp.float32)
    return (values * _normal(values)).astype(x.dtype)


@_gelu.defjvp
def _gelu_tangent(primals: Sequence[Array], tangents: Sequence[Array]) -> tuple[Array, Array]:
    (x,), (change,) = primals, tangents
    values = x.astype(jnp.float32)
    slope = _normal(values) + values * jnp.exp(-values * values / 2) / math.sqrt(2 * math.pi)
    return _gelu(x), slope.astype(x.dtype) * change


def _normal(x: Array) -> Array:
    return (1 + jax.lax.erf(x * math.sqrt(0.5))) / 2


@jax.custom_vjp
def _pooled(x: Array) -> Array:
    """Returns the largest values of windows of 2 × 2. The gradient of XLA's pooling is slow on CPUs."""
    return functools.reduce(jnp.maximum, _corners(x))


def _pooled_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    largest = _pooled(x)
    return largest, (x, largest)


def _pooled_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    """Divides the gradient of a window equally among its largest values."""
    x, largest = saved
    n, height, width, channels = x.shape
    gradient /= sum((corner == largest).astype(gradient.dtype) for corner in _corners(x))
    windows = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    taken = windows == largest[:, :, None, :, None]
    return (jnp.where(taken, gradient[:, :, None, :, None], 0).reshape(x.shape),)


_pooled.defvjp(_pooled_forward, _pooled_backward)


def _corners(x: Array) -> list[Array]:
    return [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]


def _identity_first(key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, **kwargs: object) -> Array:
    """Returns a kernel whose first filters copy an input channel each; the others are uniform on ±1/√fan_in."""
    del kwargs  # a sharding, which Flax may pass
    copies = np.arange(min(shape[-2:]))
    kernel: Array = UNIFORM(key, shape, dtype).at[..., : len(copies)].set(0)
    return kernel.at[1, 1, copies, copies].set(1)


def _haar(key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, **kwargs: object) -> Array:
    """Returns an orthogonal kernel: sums and differences in a patch, for each colour, and their negatives."""
    del key, shape, kwargs
    return _both_signs(np.kron(np.kron([[1, 1], [1, -1]], [[1, 1], [1, -1]]) / 2, np.eye(3))).astype(dtype)


def _both_signs(filters: np.ndarray) -> Array:
    """Returns a kernel of shape (2, 2, 3, 24) for filters in the columns of a matrix."""
    return jnp.asarray(np.concatenate([filters, -filters], 1).reshape(2, 2, 3, 24), jnp.float32)


def _check_images(name: str, x: Any) -> None:
    if x.ndim != 4 or x.shape[1:] != (32, 32, 3):
        raise ValueError(f"{name} must have shape (n, 32, 32, 3), got {x.shape}")
