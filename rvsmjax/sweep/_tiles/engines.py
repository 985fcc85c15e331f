"""What runs a tile: which engine a device can run, and which of them was measured to be the fastest there."""

from __future__ import annotations

import warnings
from typing import Any

from rvsmjax.sweep._tiles import cuda, pallas

ENGINES = ("auto", "xla", "cuda", "pallas", "interpret")
"""Auto, see ``chosen``; XLA's loop; a CUDA kernel made of the step; a Pallas kernel; the last as plain JAX, a test."""

FASTEST: dict[str, str] = {}
"""The engine that was measured to be the fastest, by the name of the device; the records are in benchmarks/results."""


def chosen(engine: str, devices: tuple[Any, ...]) -> str:
    """Returns the engine that runs on these devices: as asked, or XLA's loop and a warning where they cannot run it.

    ``auto`` is what was measured to be the fastest on devices of this name, and XLA's loop where nothing was measured.

    Args:
      engine: one of ``ENGINES``.
      devices: all of one kind.

    Raises:
      ValueError: an unknown engine.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    device = devices[0]
    if engine == "auto":
        engine = FASTEST.get(device.device_kind, "xla")
    lacking = _lacking(engine, device)
    if lacking:
        warnings.warn(f"engine {engine!r} needs {lacking}; XLA's loop runs instead", stacklevel=3)
        return "xla"
    return engine


def _lacking(engine: str, device: Any) -> str:
    """Returns what a device lacks for an engine, "" where it is nothing."""
    if engine in ("xla", "interpret"):
        return ""
    name = f"{device.platform} device {device.device_kind!r}"
    capability = str(getattr(device, "compute_capability", ""))
    major, _, minor = capability.partition(".")
    if device.platform not in ("gpu", "cuda") or not (major + minor).isdigit():
        return f"an NVIDIA GPU, got the {name}"
    if (int(major), int(minor or 0)) < cuda.CAPABILITY:
        return (
            f"a GPU of compute capability {'.'.join(map(str, cuda.CAPABILITY))} or later, got {name} with {capability}"
        )
    if engine == "pallas" and not pallas.available():
        return "JAX's Triton backend for Pallas, which this version of JAX does not have"
    return ""
