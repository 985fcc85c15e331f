"""A convolution that trains fast on CPUs, in place of ``jax.lax.conv_general_dilated``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from rvsmjax._sharding import is_explicit
from rvsmjax.nets import _onednn

LAYOUT = ("NHWC", "HWIO", "NHWC")
PATCHES = 2**21
"""Bytes of the patches of the images that are multiplied at a time."""
SMALL = 4
"""Longest side of an output for which a matrix product over patches is faster than XLA's convolution."""
FEW = 3
"""Largest number of input channels for which it is, too."""
TINY = 2
"""Longest side of an output for which it is faster than oneDNN's, in float32."""

Pair = tuple[int, int]
Numbers = tuple[Pair, tuple[Pair, Pair]]
"""Strides, and zeros before and after each side."""


def convolve(
    lhs: Array, rhs: Array, window_strides: Sequence[int], padding: str | Sequence[Pair], **options: Any
) -> Array:
    """Returns ``jax.lax.conv_general_dilated`` of the same arguments, with derivatives that are fast on CPUs.

    For ``flax.nnx.Conv(..., conv_general_dilated=convolve)``. On a Linux machine with one x86 CPU device, convolutions
    in float32, and in bfloat16 with AVX-512, are oneDNN's. On other CPUs the derivative by the kernel and small images,
    which XLA computes several times to fifty times slower than a matrix product, are matrix products over patches, a
    few images at a time. On other devices this is XLA's convolution, and so are convolutions that are not
    two-dimensional, dilated or grouped, other orders of axes, and arrays on explicit mesh axes.

    Args:
      lhs: images of shape (n, h, w, c).
      rhs: kernel of shape (r, s, c, o).
      window_strides: strides along h and w.
      padding: ``"SAME"``, ``"VALID"``, or the numbers of zeros before and after each side.
      options: the other arguments of ``jax.lax.conv_general_dilated``.

    Returns:
      Shape (n, h', w', o). Derivatives of any order, forward and reverse, and ``vmap`` are available.
    """
    if not _is_plain(lhs, rhs, **options):
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
    first, second = ((int(low), int(high)) for low, high in padding)
    if min(*first, *second) < 0:
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    numbers: Numbers = (int(window_strides[0]), int(window_strides[1])), (first, second)
    return _convolve(lhs, rhs, numbers)


def _is_plain(lhs: Array, rhs: Array, **options: Any) -> bool:
    numbers = options.pop("dimension_numbers", None)
    dilations = [options.pop(name, None) for name in ("lhs_dilation", "rhs_dilation")]
    groups = [options.pop(name, 1) for name in ("feature_group_count", "batch_group_count")]
    real = lhs.dtype == rhs.dtype and jnp.issubdtype(lhs.dtype, jnp.floating)
    if not real or is_explicit(lhs) or is_explicit(rhs) or numbers is None or lhs.ndim != 4:
        return False
    if rhs.ndim != 4 or lhs.size == 0 or lhs.shape[3] != rhs.shape[2]:  # the last is XLA's error, or another layout
        return False
    same = lax.conv_dimension_numbers(lhs.shape, rhs.shape, numbers) == lax.conv_dimension_numbers(
        lhs.shape, rhs.shape, LAYOUT
    )
    undilated = all(dilation is None or set(dilation) == {1} for dilation in dilations)
    return same and undilated and set(groups) == {1} and all(value is None for value in options.values())


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _convolve(x: Array, kernel: Array, numbers: Numbers) -> Array:
    side = max(_sides(x, kernel, numbers))
    onednn = _onednn.is_available(x) and (side > TINY or x.dtype != jnp.float32)
    way = _by_onednn if onednn else _by_dots if side <= SMALL or x.shape[3] <= FEW else _by_xla
    result: Array = _by_platform(way, numbers, x, kernel)
    return result


def _by_platform(way: Callable[..., Array], numbers: Numbers, x: Array, kernel: Array) -> Any:
    """Returns the convolution by ``way`` on CPUs, by XLA elsewhere."""
    cpu, plain = (functools.partial(f, numbers=numbers) for f in (way, _by_xla))
    return lax.platform_dependent(x, kernel, cpu=cpu, default=plain)


@functools.partial(_convolve.defjvp, symbolic_zeros=True)
def _tangent(numbers: Numbers, primals: Sequence[Array], tangents: Sequence[Array | SymbolicZero]) -> Any:
    """Has the sum of what is linear in the images and what is linear in the kernel; their transposes are fast."""
    x, kernel = primals
    out = _convolve(x, kernel, numbers)
    by_x, by_kernel = tangents
    parts = []
    if not isinstance(by_x, SymbolicZero):
        parts.append(_convolve(by_x, kernel, numbers))
    if not isinstance(by_kernel, SymbolicZero):
        way = _by_onednn if _onednn.is_available(x) else _by_dots
        parts.append(_by_platform(way, numbers, x, by_kernel))
    return out, sum(parts[1:], parts[0])


def _by_onednn(x: Array, kernel: Array, numbers: Numbers) -> Array:
    return _onednn.convolution(x, kernel, *numbers)


def _by_xla(x: Array, kernel: Array, numbers: Numbers) -> Array:
    return lax.conv_general_dilated(x, kernel, *numbers, dimension_numbers=LAYOUT)


def _by_dots(x: Array, kernel: Array, numbers: Numbers) -> Array:
    """Returns the convolution as matrix products over the patches of a few images at a time.

    The transpose, by the kernel, builds the patches again instead of keeping those of all images.
    """
    height, width = sides = _sides(x, kernel, numbers)
    n, out, window = x.shape[0], kernel.shape[3], (kernel.shape[0], kernel.shape[1])
    matrix = kernel.reshape(-1, out)
    chunk = max(1, min(n, PATCHES // max(1, height * width * len(matrix) * x.dtype.itemsize)))

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def multiply(images: Array) -> Array:
        return (_patches(images, window, sides, numbers) @ matrix).reshape(-1, height, width, out)

    if chunk == n:
        return multiply(x)
    chunks = -(-n // chunk)
    x = jnp.pad(x, ((0, chunks * chunk - n), (0, 0), (0, 0), (0, 0)))
    y = lax.map(multiply, x.reshape(chunks, chunk, *x.shape[1:]))
    return y.reshape(-1, height, width, out)[:n]


def _patches(x: Array, window: Pair, sides: Pair, numbers: Numbers) -> Array:
    """Returns what each output depends on, of shape (n · h' · w', r · s · c)."""
    strides, padding = numbers
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    ends = [stride * (side - 1) + 1 for stride, side in zip(strides, sides, strict=True)]
    slices = [
        x[:, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1]]
        for i in range(window[0])
        for j in range(window[1])
    ]
    return jnp.concatenate(slices, -1).reshape(-1, window[0] * window[1] * x.shape[3])


def _sides(x: Array, kernel: Array, numbers: Numbers) -> Pair:
    strides, padding = numbers
    sizes = zip(x.shape[1:3], padding, kernel.shape[:2], strides, strict=True)
    height, width = ((size + low + high - window) // stride + 1 for size, (low, high), window, stride in sizes)
    return height, width
