"""Selection of the engine that runs tiles on a device."""

from __future__ import annotations

import warnings
from typing import Any

import jax

from rvsmjax.sweep._tiles import cuda, pallas

ENGINES = ("auto", "xla", "cuda", "pallas", "interpret")
"""Automatic, see ``resolve``; XLA's loop; the CUDA kernel; the Pallas kernel; the Pallas kernel as plain JAX."""

FASTEST: dict[str, str] = {}
"""The engine measured to be the fastest, by device name; the records are in benchmarks/results."""


def resolve(engine: str, devices: tuple[Any, ...]) -> str:
    """Returns the engine to use: the requested one, or ``xla`` with a warning if the devices cannot run it.

    ``auto`` resolves to the engine in ``FASTEST``, by default ``xla``.

    Args:
      engine: one of ``ENGINES``.
      devices: devices of one kind.

    Raises:
      ValueError: an unknown engine.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    device = devices[0]
    if engine == "auto":
        engine = FASTEST.get(device.device_kind, "xla")
    requirement = _missing_requirement(engine, device)
    if requirement:
        warnings.warn(f"engine {engine!r} requires {requirement}; using 'xla' instead", stacklevel=3)
        return "xla"
    return engine


def _missing_requirement(engine: str, device: Any) -> str:
    """Returns the requirement of an engine that a device does not meet, or ""."""
    if engine in ("xla", "interpret"):
        return ""
    name = f"{device.platform} device {device.device_kind!r}"
    capability = str(getattr(device, "compute_capability", ""))
    major, _, minor = capability.partition(".")
    if device.platform not in ("gpu", "cuda") or not (major + minor).isdigit():
        return f"an NVIDIA GPU, got {name}"
    if (int(major), int(minor or 0)) < cuda.CAPABILITY:
        least = ".".join(map(str, cuda.CAPABILITY))
        return f"an NVIDIA GPU of compute capability {least} or later, got {name} with {capability}"
    if engine == "pallas" and not pallas.available():
        return f"Pallas's Triton backend, which JAX {jax.__version__} lacks"
    return ""
