"""Lowering of a sweep for a platform that need not be present."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from rvsmjax import _checks
from rvsmjax.sweep._program import program
from rvsmjax.sweep._program.plan import make_plan, precision
from rvsmjax.sweep.grid import Grid

KINDS = {"cuda": "NVIDIA H100 80GB HBM3", "tpu": "TPU v5e", "cpu": "cpu"}
"""Device kind that a program is lowered for, by platform."""


@dataclasses.dataclass(frozen=True)
class DeviceStub:
    """Stand-in for a device, with the attributes that a plan reads."""

    platform: str
    device_kind: str
    id: int
    process_index: int = 0
    compute_capability: str = "9.0"


def lower_sweep(
    grid: Grid, platform: str = "cuda", engine: str = "auto", *, devices: int = 1, dtype: Any = None
) -> jax.stages.Lowered:
    """Lowers the program that ``run_sweep`` would run on a platform; no device of that platform is needed.

    Lowering shows that JAX can translate every operation for the platform, not that XLA can compile the result;
    ``make check-accelerators`` also compiles.

    Args:
      grid: the grid.
      platform: ``"cuda"`` (an NVIDIA H100), ``"tpu"`` (a v5e) or ``"cpu"``.
      engine: as in ``run_sweep``.
      devices: number of devices, >= 1.
      dtype: working precision, as in ``run_sweep``.

    Raises:
      TypeError: ``grid`` is not a ``Grid``.
      ValueError: an unknown platform or engine; ``devices`` < 1.

    Example:
      >>> text = lower_sweep(Grid(penalty="l1", d=7, seeds=4), platform="cuda", engine="cuda").as_text()
      >>> "fma.rn.f32" in text  # the kernel is embedded as PTX
      True
    """
    if not isinstance(grid, Grid):
        raise TypeError(f"grid must be a Grid, got {grid!r}")
    if platform not in KINDS:
        raise ValueError(f"platform must be one of {', '.join(KINDS)}, got {platform!r}")
    count = _checks.count("devices", devices)
    name = "gpu" if platform == "cuda" else platform
    stubs = tuple(DeviceStub(name, KINDS[platform], i) for i in range(count))
    plan = make_plan(grid, precision(dtype), stubs, progress=False, engine=engine)
    described = AbstractDevice(device_kind=KINDS[platform], num_cores=None, platform=name)
    mesh = AbstractMesh((count,), ("lanes",), axis_types=(AxisType.Auto,), abstract_device=described)
    return program.lower_plan(plan, jax.random.key_impl(jax.random.key(0)), mesh, (platform,))
