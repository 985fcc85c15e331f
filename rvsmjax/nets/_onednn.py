"""Convolutions by oneDNN, which jaxlib contains and XLA does not call by itself: several times as fast on x86 CPUs.

The custom call has no documented interface. It is used with versions of JAX on which the tests have compared it with
XLA's convolution, on Linux, and where the process has one CPU device, since a custom call cannot be partitioned.
"""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rvsmjax._sharding import is_manual

VERSIONS = (0, 10), (0, 12)
"""First and last minor version of JAX with the interface below."""
AVX512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
"""What oneDNN needs for bfloat16."""
LAYOUT = ("NHWC", "HWIO", "NHWC")
SHORT = 8
"""Longest side of an image for which, without AVX-512, the derivative by the kernel has an image for each channel."""
KERNELS = {"HWIO": (0, 1, 2, 3), "IHWO": (1, 2, 0, 3)}
"""Orders of a kernel's axes, and where its height, width, inputs and outputs are: oneDNN reorders it anyway."""

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


def is_available(x: Array) -> bool:
    """Returns whether ``convolution`` may be called with images ``x``."""
    flags = _flags()
    if flags is None or jax.default_backend() != "cpu" or jax.device_count() > 1 or is_manual(x):
        return False
    return x.dtype == jnp.float32 or (x.dtype == jnp.bfloat16 and flags >= AVX512)


@functools.cache
def _flags() -> set[str] | None:
    """Returns the instruction sets of the processor, None where the interface is not known."""
    if not VERSIONS[0] <= jax.__version_info__[:2] <= VERSIONS[1]:
        return None
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return None
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return set(flags) if "avx2" in flags else None


def convolution(
    x: Array, kernel: Array, strides: Pair, pads: Sequence[Pair], dilation: Pair = (1, 1), order: str = "HWIO"
) -> Array:
    """Returns the convolution of images (n, h, w, c) with a kernel (r, s, c, o), of shape (n, h', w', o).

    Args:
      x: images, float32 or bfloat16.
      kernel: of the same dtype.
      strides: >= 1.
      pads: rows and columns of zeros before and after; negative numbers crop.
      dilation: of the kernel, >= 1.
      order: of the kernel's axes, one of ``KERNELS``.
    """
    result: Array = convolution_p.bind(
        _crop(x, pads), kernel, strides=strides, pads=_kept(pads), dilation=dilation, order=order
    )
    return result


def _kept(pads: Sequence[Pair]) -> Pads:
    (top, bottom), (left, right) = pads
    return (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))


def _crop(x: Array, pads: Sequence[Pair], interior: Pair = (0, 0)) -> Array:
    """Returns images without the rows and columns that negative ``pads`` take, and with zeros between them."""
    config = [(min(low, 0), min(high, 0), zeros) for (low, high), zeros in zip(pads, interior, strict=True)]
    if not any(map(any, config)):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])


convolution_p = Primitive("onednn_convolution")


@convolution_p.def_abstract_eval
def _abstract(x: Any, kernel: Any, *, strides: Pair, pads: Pads, dilation: Pair, order: str) -> Any:
    window = [kernel.shape[i] for i in KERNELS[order][:2]]
    sizes = zip(x.shape[1:3], window, strides, pads, dilation, strict=True)
    sides = [(n + low + high - d * (k - 1) - 1) // s + 1 for n, k, s, (low, high), d in sizes]
    return jax.core.ShapedArray((x.shape[0], *sides, kernel.shape[3]), x.dtype)


def _call(x: Array, kernel: Array, *, strides: Pair, pads: Pads, dilation: Pair, order: str) -> Any:
    height, width, inputs, outputs = KERNELS[order]
    layout = {"data": {"batch_dim": 0, "feature_dim": 3, "spatial_dims": [1, 2]}}
    config = {
        "dims": 4,
        "feature_groups": 1,
        "input": layout,
        "output": layout,
        "kernel": {
            "filter": {"input_feature_dim": inputs, "output_feature_dim": outputs, "spatial_dims": [height, width]}
        },
        "window": {
            "pad_left": [low for low, _ in pads],
            "pad_right": [high for _, high in pads],
            "strides": list(strides),
            "window_dilations": list(dilation),
        },
    }
    out = _abstract(x, kernel, strides=strides, pads=pads, dilation=dilation, order=order)
    call = jax.ffi.ffi_call(
        "__onednn$convolution",
        jax.ShapeDtypeStruct(out.shape, out.dtype),
        custom_call_api_version=1,
        legacy_backend_config=json.dumps({"onednn_conv_config": config}),
    )
    return call(x, kernel)


def _by_xla(x: Array, kernel: Array, *, strides: Pair, pads: Pads, dilation: Pair, order: str) -> Array:
    return lax.conv_general_dilated(
        x, kernel.transpose(KERNELS[order]), strides, pads, rhs_dilation=dilation, dimension_numbers=LAYOUT
    )


def _lower(context: Any, x: Any, kernel: Any, **numbers: Any) -> Any:
    """Lowers to the custom call, and for ``jax.export``, which refuses calls without a promise, to XLA's."""
    way = _by_xla if context.module_context.lowering_parameters.for_export else _call
    return mlir.lower_fun(way, multiple_results=False)(context, x, kernel, **numbers)


def _transpose_images(
    cotangent: Array, x: Any, kernel: Array, *, strides: Pair, pads: Pads, dilation: Pair, order: str
) -> Array:
    """Returns the cotangent of the images: a convolution with the turned kernel."""
    kernel = kernel.transpose(KERNELS[order])
    if strides != (1, 1) and dilation == (1, 1):
        return _by_phases(cotangent, x.aval.shape[1:3], kernel, strides, pads)
    sizes = zip(x.aval.shape[1:3], cotangent.shape[1:3], kernel.shape[:2], strides, pads, dilation, strict=True)
    around = []
    for side, out, window, stride, (low, _), d in sizes:
        before = d * (window - 1) - low
        around.append((before, side + d * (window - 1) - (stride * (out - 1) + 1) - before))
    spread = _crop(cotangent, around, (strides[0] - 1, strides[1] - 1))
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return convolution(spread, turned, (1, 1), _kept(around), dilation)


def _by_phases(cotangent: Array, sides: Pair, kernel: Array, strides: Pair, pads: Pads) -> Array:
    """Returns the cotangent of the images of a convolution with strides, without products with the zeros between.

    Rows of the images whose numbers have the same remainder modulo the stride depend on the same rows of the kernel. So
    do columns, and the remainders are output channels of one convolution with stride 1.
    """
    taps = [-(-window // stride) for window, stride in zip(kernel.shape, strides, strict=False)]
    fill = [(0, tap * stride - window) for tap, stride, window in zip(taps, strides, kernel.shape, strict=False)]
    inputs, outputs = kernel.shape[2:]
    phases = jnp.pad(kernel, (*fill, (0, 0), (0, 0))).reshape(taps[0], strides[0], taps[1], strides[1], inputs, outputs)
    turned = jnp.flip(phases, (0, 2)).transpose(0, 2, 5, 1, 3, 4).reshape(*taps, outputs, -1)
    rows = [-(-(side + low) // stride) for side, stride, (low, _) in zip(sides, strides, pads, strict=True)]
    around = [(tap - 1, row - out) for tap, row, out in zip(taps, rows, cotangent.shape[1:3], strict=True)]
    y = convolution(cotangent, turned, (1, 1), around)
    y = y.reshape(-1, *rows, *strides, inputs).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(-1, rows[0] * strides[0], rows[1] * strides[1], inputs)
    (top, _), (left, _) = pads
    return y[:, top : top + sides[0], left : left + sides[1]]


def _transpose_kernel(
    cotangent: Array, x: Array, kernel: Any, *, strides: Pair, pads: Pads, dilation: Pair, order: str
) -> Array:
    """Returns the cotangent of the kernel: a convolution whose channels are the images, its kernel the cotangent.

    Columns and channels are one axis of it, so that a row of its output, (s, c), is long enough for fast products of
    matrices. Where that is not faster, or the kernel is dilated, each channel is an image.
    """
    window = tuple(kernel.aval.shape[i] for i in KERNELS[order][:2])
    with set_xla_metadata(inlineable="false"):  # else XLA computes the images again, in the order of their transpose
        gradient: Array = _kernel_gradient(cotangent, x, window, strides, pads, dilation)
    return gradient if order == "HWIO" else gradient.transpose(2, 0, 1, 3)


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _kernel_gradient(cotangent: Array, x: Array, window: Pair, strides: Pair, pads: Pads, dilation: Pair) -> Array:
    n, height, width, inputs = x.shape
    sizes = zip((height, width), cotangent.shape[1:3], window, strides, pads, dilation, strict=True)
    rows, columns = [
        (low, d * (length - 1) + stride * (out - 1) + 1 - side - low)
        for side, out, length, stride, (low, _), d in sizes
    ]
    if window == (1, 1):
        ends = [stride * (out - 1) + 1 for stride, out in zip(strides, cotangent.shape[1:3], strict=True)]
        seen = jnp.pad(x, ((0, 0), *pads, (0, 0)))[:, : ends[0] : strides[0], : ends[1] : strides[1]]
        return jnp.einsum("nhwc,nhwo->co", seen, cotangent)[None, None]
    if dilation != (1, 1) or not ((_flags() or set()) >= AVX512 or max(height, width) > SHORT):
        by_channel = convolution(x.transpose(3, 1, 2, 0), cotangent, dilation, (rows, columns), strides, "IHWO")
        return by_channel.transpose(1, 2, 0, 3)
    x = x.reshape(n, -1).T.reshape(1, height, width * inputs, n)
    columns, spread = (columns[0] * inputs, columns[1] * inputs), (strides[0], strides[1] * inputs)
    by_row = convolution(x, cotangent, (1, 1), (rows, columns), spread, "IHWO")
    return by_row.reshape(*window, inputs, -1)


def _batched(args: Sequence[Array], dims: Sequence[int | None], **numbers: Any) -> tuple[Array, int]:
    (x, kernel), (x_dim, kernel_dim) = args, dims
    if x_dim is not None:
        x = jnp.moveaxis(x, x_dim, 0)
    if kernel_dim is None:
        y = convolution_p.bind(x.reshape(-1, *x.shape[2:]), kernel, **numbers)
        return y.reshape(*x.shape[:2], *y.shape[1:]), 0
    kernel = jnp.moveaxis(kernel, kernel_dim, 0)
    if x_dim is None:
        return lax.map(lambda k: convolution_p.bind(x, k, **numbers), kernel), 0
    return lax.map(lambda pair: convolution_p.bind(*pair, **numbers), (x, kernel)), 0


convolution_p.def_impl(lambda *args, **numbers: jax.jit(lambda *a: convolution_p.bind(*a, **numbers))(*args))
ad.defbilinear(convolution_p, _transpose_images, _transpose_kernel)
batching.primitive_batchers[convolution_p] = _batched
mlir.register_lowering(convolution_p, _lower, platform="cpu")
