"""Plan of a sweep: the static description of a grid that determines its compiled program."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvsmjax import _checks
from rvsmjax.sweep._tiles.engines import resolve
from rvsmjax.sweep._tiles.step import FEW, FOLDED, UNROLLED
from rvsmjax.sweep.grid import Factory, Grid

ROWS = 64
"""Lanes are drawn and measured with d padded to a multiple of this, so nearby d share that code."""

MIN_SAVED_UPDATES = {"cpu": 8_000_000, "loop": 50_000_000, "kernel": 500_000_000}
"""A kind gets separate code only if that saves at least this many components of padding on each device.

Compiling the code takes about as long as running these on CPU cores, in XLA's loop on an accelerator, or in a kernel.
"""

INNER = ("k", "lam", "beta", "learning_rate", "seed")
"""Axes within an entry of the penalty axis, in row-major order."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """Lanes that share code.

    Attributes:
      d: dimension of w.
      entries: indices on the penalty axis.
      penalty: tree structure common to those penalties.
      normalize: whether w is normalised after each step.
    """

    d: int
    entries: tuple[int, ...]
    penalty: Any
    normalize: bool

    @property
    def rows(self) -> int:
        """d padded to a multiple of ``ROWS``."""
        return -(-self.d // ROWS) * ROWS

    @property
    def separable(self) -> bool:
        """Whether the penalty acts on each component separately."""
        return bool(self.with_leaves(0.0).separable)

    def with_leaves(self, leaf: Any) -> Any:
        """Returns the penalty with ``leaf`` for every parameter."""
        return jax.tree.unflatten(self.penalty, [leaf] * self.penalty.num_leaves)

    @property
    def measure_key(self) -> Any:
        """Key of the measuring code; kinds of different d share it if rows of zeros do not affect the result."""
        return self.entries if self.fixes_zero else (self.entries, self.d)

    @property
    def fixes_zero(self) -> bool:
        """Whether components that start at zero stay zero."""
        return bool(self.with_leaves(0.0).fixes_zero)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Static configuration of a compiled program; the values on the axes are its arguments."""

    kinds: tuple[Kind, ...]
    lengths: tuple[int, ...]
    problem: Factory
    given_rate: bool
    dtype: str
    tile: int
    devices: tuple[Any, ...]
    progress: bool
    engine: str

    @property
    def blocks(self) -> list[Block]:
        """Kinds grouped by padded rows."""
        rows = sorted({kind.rows for kind in self.kinds})
        return [Block(self, tuple(kind for kind in self.kinds if kind.rows == r)) for r in rows]


@dataclasses.dataclass(frozen=True)
class Block:
    """Kinds with equal padded rows, which share draws and measuring code."""

    plan: Plan
    kinds: tuple[Kind, ...]

    @property
    def lanes(self) -> tuple[int, ...]:
        """Number of lanes of each kind."""
        return tuple(len(kind.entries) * math.prod(self.plan.lengths) for kind in self.kinds)

    @property
    def lane_offsets(self) -> tuple[int, ...]:
        """Offset of each kind in results in grid order, then the total."""
        return (0, *itertools.accumulate(self.lanes))

    @property
    def tile_counts(self) -> tuple[int, ...]:
        """Tiles of each kind per device; the last may be all padding on some devices."""
        lanes_per_round = self.plan.tile * len(self.plan.devices)
        return tuple(-(-n // lanes_per_round) for n in self.lanes)

    @property
    def tile_offsets(self) -> tuple[int, ...]:
        """Offset of each kind in a device's tiles, then the total."""
        return (0, *itertools.accumulate(self.tile_counts))

    def runner(self, index: int) -> int:
        """Returns the index of the kind whose code runs a kind: one of larger d if padding costs less than compiling.

        Rows of zeros change no bit of a sum over at least eight rows, see ``step``, nor of any sum in ``cuda``. Sums on
        the two sides of ``UNROLLED``, and of ``FOLDED``, are added in different orders.
        """
        kind = self.kinds[index]
        if kind.d < 8 or not kind.fixes_zero:
            return index
        compatible = [
            i
            for i, k in enumerate(self.kinds)
            if (k.entries, k.penalty, k.normalize) == (kind.entries, kind.penalty, kind.normalize)
            and all((k.d > bound) == (kind.d > bound) for bound in (UNROLLED, FOLDED))
        ]
        widest = max(compatible, key=lambda i: self.kinds[i].d)
        padding = (self.kinds[widest].d - kind.d) * self.lanes[index] // len(self.plan.devices)
        target = "cpu" if self.plan.devices[0].platform == "cpu" else "loop" if self.plan.engine == "xla" else "kernel"
        return widest if padding <= MIN_SAVED_UPDATES[target] else index

    @property
    def dims(self) -> list[int]:
        """Distinct values of d, ascending."""
        return sorted({kind.d for kind in self.kinds})


def precision(dtype: Any) -> np.dtype:
    """Returns the working precision; ``None`` means JAX's default float.

    Raises:
      ValueError: an unsupported dtype, or float64 with 64-bit types disabled.
    """
    resolved = np.dtype(jnp.result_type(float) if dtype is None else dtype)
    if resolved not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {resolved}")
    if resolved == np.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError("dtype must be float32 unless jax_enable_x64 is set, got float64")
    return resolved


def make_plan(grid: Grid, dtype: np.dtype, devices: tuple[Any, ...], progress: bool, engine: str = "auto") -> Plan:
    """Returns the plan of a grid: its lanes grouped into kinds, and the static configuration.

    Args:
      grid: the grid.
      dtype: working precision.
      devices: devices of one platform.
      progress: whether the program reports progress.
      engine: one of ``engines.ENGINES``.

    Raises:
      ValueError: an unknown engine, a grid with custom axes or a custom problem.
    """
    if not grid.is_plain:
        rule = "have no custom axes without an algorithm" if grid.axes else "be of one-layer problems"
        raise ValueError(f"grid must {rule}, got {_checks.show(grid.problem or dict(grid.axes))}")
    engine = resolve(engine, devices)
    axes = grid.values
    entries: dict[Any, list[int]] = {}
    for index, penalty in enumerate(axes.penalty):
        entries.setdefault(jax.tree.structure(penalty), []).append(index)
    return Plan(
        kinds=tuple(
            Kind(d, tuple(indices), structure, flag)
            for d in axes.d
            for structure, indices in entries.items()
            for flag in axes.normalize
        ),
        lengths=tuple(grid.shape[name] for name in INNER),
        problem=grid.factory,
        given_rate=axes.learning_rate is not None,
        dtype=dtype.name,
        tile=_tile_size(
            max(axes.d),
            devices[0].platform,
            engine,
            max(map(len, entries.values())) * math.prod(grid.shape[name] for name in INNER) // len(devices),
        ),
        devices=devices,
        progress=progress,
        engine=engine,
    )


def _tile_size(widest: int, platform: str, engine: str, lanes: int) -> int:
    """Returns the number of lanes in a tile, which affects speed but no bit of the results.

    Args:
      widest: largest d.
      platform: platform of the devices.
      engine: the resolved engine.
      lanes: most lanes of a kind on one device.
    """
    if engine == "cuda" and platform != "cpu":
        # Warps stop independently, so one tile may hold all lanes of a kind; the cap fills the GPU many times over.
        return min(262_144, max(8192, 1 << (lanes - 1).bit_length()))
    if platform == "tpu":
        # XLA's compile time on TPUs grows with the tile: 25 s at 65,536 lanes, 7 s at 1,024.
        return min(65_536, max(1024, 1 << (max(32, lanes) // 32).bit_length() - 1))
    if platform != "cpu":
        return 65_536  # fills the GPU
    if engine != "xla":
        return 128  # a multiple of the Pallas kernel's blocks
    if widest <= 24:
        return 224
    return 64 if FEW < widest <= UNROLLED else 112  # w and w* fit in the L1 cache
