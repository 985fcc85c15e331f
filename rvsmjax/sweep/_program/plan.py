"""What the program of a sweep depends on, and what its arguments are."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvsmjax.sweep._tiles.engines import chosen
from rvsmjax.sweep._tiles.step import FEW, UNROLLED
from rvsmjax.sweep.grid import Grid, Problem

ROWS = 64
"""Lanes are drawn and measured with d rounded up to a multiple of this, so that near d share that code."""

CODE = {"cpu": 8_000_000, "loop": 50_000_000, "kernel": 500_000_000}
"""Components of a device that code of its own must save a kind: compiling it takes as long as a run of these.

By what runs them: cores, XLA's loop on an accelerator, a kernel there.
"""

INNER = ("k", "lam", "beta", "learning_rate", "seed")
"""Axes within a kind of lanes, behind the entries of the penalty axis; the last one is the fastest."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """Lanes that run the same code: one d, one structure of penalty, normalised or not."""

    d: int
    entries: tuple[int, ...]
    penalty: Any
    normalize: bool

    @property
    def rows(self) -> int:
        """d, rounded up."""
        return -(-self.d // ROWS) * ROWS

    @property
    def separable(self) -> bool:
        """Whether the penalty is that of each component alone."""
        return bool(self.like(0.0).separable)

    def like(self, leaf: Any) -> Any:
        """Returns the penalty with ``leaf`` for each of its numbers."""
        return jax.tree.unflatten(self.penalty, [leaf] * self.penalty.num_leaves)

    @property
    def measured_with(self) -> Any:
        """What kinds have in common that are measured by the same code: rows of zeros must not count."""
        return self.entries if self.zeros_stay else (self.entries, self.d)

    @property
    def zeros_stay(self) -> bool:
        """Whether components that are zero from the start are known to stay so."""
        return bool(self.like(0.0).fixes_zero)


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that the compiled program depends on; numbers on the axes are its arguments."""

    kinds: tuple[Kind, ...]
    lengths: tuple[int, ...]
    problem: Problem
    given_rate: bool
    dtype: str
    tile: int
    devices: tuple[Any, ...]
    progress: bool
    engine: str

    @property
    def blocks(self) -> list[Block]:
        """The kinds with equal rows together."""
        rows = sorted({kind.rows for kind in self.kinds})
        return [Block(self, tuple(kind for kind in self.kinds if kind.rows == r)) for r in rows]


@dataclasses.dataclass(frozen=True)
class Block:
    """Kinds whose draws and measures are shared."""

    plan: Plan
    kinds: tuple[Kind, ...]

    @property
    def lanes(self) -> tuple[int, ...]:
        """Lanes of each kind."""
        return tuple(len(kind.entries) * math.prod(self.plan.lengths) for kind in self.kinds)

    @property
    def homes(self) -> tuple[int, ...]:
        """The first place of each kind among the results in the grid's order, and the number of all."""
        return (0, *itertools.accumulate(self.lanes))

    @property
    def rounds(self) -> tuple[int, ...]:
        """Tiles of each kind that each device runs; on some the last is past the end."""
        at_once = self.plan.tile * len(self.plan.devices)
        return tuple(-(-n // at_once) for n in self.lanes)

    @property
    def starts(self) -> tuple[int, ...]:
        """The first tile of each kind among a device's, and the number of all."""
        return (0, *itertools.accumulate(self.rounds))

    def runner(self, kind: int) -> int:
        """Returns the kind whose code runs a kind: one of larger d, where zeros below cost less than code of its own.

        Rows of zeros change no bit of a sum of at least eight rows, see ``step``, and none of a sum in ``cuda``.
        """
        own = self.kinds[kind]
        if own.d < 8 or not own.zeros_stay:
            return kind
        like = [
            i
            for i, k in enumerate(self.kinds)
            if (k.entries, k.penalty, k.normalize) == (own.entries, own.penalty, own.normalize)
        ]
        widest = max(like, key=lambda i: self.kinds[i].d)
        more = (self.kinds[widest].d - own.d) * self.lanes[kind] // len(self.plan.devices)
        on = "cpu" if self.plan.devices[0].platform == "cpu" else "loop" if self.plan.engine == "xla" else "kernel"
        return widest if more <= CODE[on] else kind

    @property
    def widths(self) -> list[int]:
        """The values of d."""
        return sorted({kind.d for kind in self.kinds})


def precision(dtype: Any) -> np.dtype:
    """Returns the working precision, JAX's default float for ``None``; raises where it is not to be had."""
    chosen = np.dtype(jnp.result_type(float) if dtype is None else dtype)
    if chosen not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {chosen}")
    if chosen == np.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError("dtype float64 needs 64-bit numbers: set jax_enable_x64, or run inside jax.enable_x64(True)")
    return chosen


def make_plan(grid: Grid, dtype: np.dtype, devices: tuple[Any, ...], progress: bool, engine: str = "auto") -> Plan:
    """Returns the plan of a grid: its lanes sorted into kinds, and what is static of the rest.

    Args:
      grid: the lanes.
      dtype: working precision.
      devices: all of one platform.
      progress: whether the program reports.
      engine: one of ``engines.ENGINES``.

    Raises:
      ValueError: an unknown engine.
    """
    engine = chosen(engine, devices)
    axes = grid.axes
    entries: dict[Any, list[int]] = {}
    for index, penalty in enumerate(axes.penalty):
        entries.setdefault(jax.tree.structure(penalty), []).append(index)
    return Plan(
        kinds=tuple(
            Kind(d, tuple(own), structure, flag)
            for d in axes.d
            for structure, own in entries.items()
            for flag in axes.normalize
        ),
        lengths=tuple(grid.shape[name] for name in INNER),
        problem=grid.problem,
        given_rate=axes.learning_rate is not None,
        dtype=dtype.name,
        tile=_lanes_at_once(
            max(axes.d),
            devices[0].platform,
            engine,
            max(map(len, entries.values())) * math.prod(grid.shape[name] for name in INNER) // len(devices),
        ),
        devices=devices,
        progress=progress,
        engine=engine,
    )


def _lanes_at_once(widest: int, platform: str, engine: str, lanes: int) -> int:
    """Returns the lanes of a tile. Their number changes no bit.

    Args:
      widest: the greatest d.
      platform: of the devices.
      engine: what runs a tile.
      lanes: of a kind on one device.
    """
    if engine == "cuda" and platform != "cpu":
        # All lanes of a kind at once, as warps stop alone, up to what fills the chip many times over.
        return min(262_144, max(8192, 1 << (lanes - 1).bit_length()))
    if platform == "tpu":
        # XLA's compiler for TPUs takes longer the larger a tile is: 25 s at 65,536 lanes, 7 s at 1,024.
        return min(65_536, max(1024, 1 << (max(32, lanes) // 32).bit_length() - 1))
    if platform != "cpu":
        return 65_536  # fills the chip
    if engine != "xla":
        return 128  # the kernel takes whole blocks
    if widest <= 24:
        return 224
    return 64 if FEW < widest <= UNROLLED else 112  # w and w* stay in a core's first cache
