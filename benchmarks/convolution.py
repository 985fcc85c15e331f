"""Convolutions in training on a CPU: ``nets.convolve``, XLA's and PyTorch's, in GFLOP/s.

A turn is the convolution with both derivatives, 3 × 3 with stride 1, of 128 images, as in ResNet-20 and VGG-16. All
variants run in one process, in turns; the shortest time of each counts, excluding compilation.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
from jax import Array, lax

from benchmarks.transforms import in_turns
from rvsmjax.nets import convolve

IMAGES = 128
LAYERS = {"ResNet-20": ((16, 32), (32, 16), (64, 8)), "VGG-16": ((64, 32), (128, 16), (256, 8), (512, 4), (512, 2))}
"""Channels, in and out, and side of the images."""
DTYPES = ("float32", "bfloat16")

SETTINGS: dict[str, Any] = {
    "window_strides": (1, 1),
    "padding": ((1, 1), (1, 1)),
    "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
}


def ours(layer: Callable[..., Array], channels: int, side: int, dtype: str) -> Callable[[], Any]:
    """Returns a turn of JAX."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = ((IMAGES, side, side, channels), (3, 3, channels, channels), (IMAGES, side, side, channels))
    x, kernel, cotangent = (jax.random.normal(*pair).astype(dtype) for pair in zip(keys, shapes, strict=True))

    @jax.jit
    def turn(x: Array, kernel: Array, cotangent: Array) -> Any:
        y, pull = jax.vjp(functools.partial(layer, **SETTINGS), x, kernel)
        return y, pull(cotangent)

    return functools.partial(turn, x, kernel, cotangent)


def pytorch(channels: int, side: int, dtype: str) -> Callable[[], Any]:
    """Returns a turn of PyTorch, channels last."""
    import torch

    kind = getattr(torch, dtype)
    x = torch.randn(IMAGES, channels, side, side, dtype=kind).to(memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3, dtype=kind).to(memory_format=torch.channels_last)
    cotangent = torch.randn_like(x)
    x.requires_grad_()
    kernel.requires_grad_()

    def turn() -> None:
        y = torch.nn.functional.conv2d(x, kernel, padding=1)
        torch.autograd.grad(y, (x, kernel), cotangent)

    return turn


def measure(rounds: int = 4) -> list[dict[str, Any]]:
    """Returns GFLOP/s of each variant for each layer and dtype."""
    results = []
    for net, layers in LAYERS.items():
        for channels, side in layers:
            for dtype in DTYPES:
                variants = {
                    "rvsmjax": ours(convolve, channels, side, dtype),
                    "XLA": ours(lax.conv_general_dilated, channels, side, dtype),
                }
                if importlib.util.find_spec("torch"):
                    variants["PyTorch"] = pytorch(channels, side, dtype)
                seconds = in_turns(variants, rounds, turns=2)
                work = 3 * 2 * 9 * channels**2 * IMAGES * side**2 / 1e9
                rates = {name: work / time for name, time in seconds.items()}
                results.append({"net": net, "channels": channels, "side": side, "dtype": dtype, "GFLOP/s": rates})
    return results


def table(record: dict[str, Any]) -> str:
    """Returns the record as Markdown."""
    versions = record["versions"]
    names = list(record["results"][0]["GFLOP/s"])
    torch = f", PyTorch {versions['torch']}" if versions.get("torch") else ""
    rows = [
        f"{record['machine']}; Python {versions['python']}, JAX {versions['jax']}{torch}; {record['date']}.",
        "GFLOP/s, and ours over the peer.",
        "",
        "| | channels | images | | " + " | ".join(names) + " |",
        "|---|--:|--:|---|" + "--:|" * len(names),
    ]
    for result in record["results"]:
        rates, side = result["GFLOP/s"], result["side"]
        cells = [
            f"{rate:,.0f}" + (f" ({rates['rvsmjax'] / rate:.1f} ×)" if name != "rvsmjax" else "")
            for name, rate in rates.items()
        ]
        shown = f"| {result['net']} | {result['channels']} | {side} × {side} | {result['dtype']} | "
        rows.append(shown + " | ".join(cells) + " |")
    return "\n".join(rows)
