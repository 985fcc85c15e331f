"""Measures of the limits: u, the Moreau envelope of the penalty, the certificate."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rvsmjax.certificate import Certificate, certificate_at
from rvsmjax.penalties import moreau_envelope
from rvsmjax.sweep._program.draws import Lanes, tile_of
from rvsmjax.sweep._program.plan import Block, Kind, Plan


def _limits(plan: Plan, kind: Kind, leaves: list[Array], lanes: Lanes, w: Array) -> tuple[Array, ...]:
    """Returns w, w*, u and the Moreau envelope of a tile's limits, over all padded rows if ``kind.fixes_zero``."""
    if kind.measure_key == kind.entries:
        kind = dataclasses.replace(kind, d=kind.rows)
    tile, _ = tile_of(kind, leaves, lanes)
    w, step = w[: kind.d], tile.lam / tile.beta
    u = jax.vmap(lambda penalty, v, s: penalty.decomposition(v, s)[0], (0, 1, 0), 1)(tile.penalty, w, step)
    if kind.separable:
        by_component = jax.vmap(jax.vmap(moreau_envelope, (None, 0, None)), (0, 1, 0), 1)(tile.penalty, w, step)
        # Rule 5.
        unrolled = plan.devices[0].platform == "cpu"
        envelope = tile._replace(unrolled=unrolled).sum(lambda row: row, by_component)
    else:
        envelope = jax.vmap(moreau_envelope, (0, 1, 0))(tile.penalty, w, step)
    vectors = [jnp.pad(v, ((0, kind.rows - kind.d), (0, 0))) for v in (w, tile.w_star, u)]
    return *vectors, envelope


class Measures:
    """Certificates of a block's limits; kinds with the same ``measure_key`` share code."""

    fields = len(Certificate._fields)

    def __init__(self, block: Block, leaves: list[list[Array]]) -> None:
        self.plan = block.plan
        groups = list(dict.fromkeys(kind.measure_key for kind in block.kinds))
        self.group = [groups.index(kind.measure_key) for kind in block.kinds]
        self.dims = [kind.d for kind in block.kinds]
        first = [self.group.index(g) for g in range(len(groups))]
        self.branches: list[Callable[..., Any]] = [
            functools.partial(_limits, self.plan, block.kinds[i], leaves[i]) for i in first
        ]
        # Rule 1.
        self.branches.append(lambda lanes, w: (w, w, w, w[0]))

    def zeros(self, tiles: int, lanes: int) -> Array:
        """Returns zeros of shape (tiles, fields, lanes)."""
        return jnp.zeros((tiles, self.fields, lanes), self.plan.dtype)

    def __call__(self, kind: Array, lanes: Lanes, w: Array, valid: Array) -> Array:
        """Returns the certificates of a tile, of shape (fields, lanes), all in the working precision.

        Args:
          kind: kind of the tile.
          lanes: lanes of the tile.
          w: limits of shape (rows, lanes), on the sphere.
          valid: traced condition that is always true.
        """

        def measure(*args: Any) -> Array:
            fields = jax.vmap(certificate_at, in_axes=(0, 0, 0, 0, 1, 1, 1, 0))(*args)
            # Stacked: a loop that carries the fields separately takes longer to compile than to run.
            return jnp.stack([jnp.asarray(field, self.plan.dtype) for field in fields])

        # Rule 4.
        limits = jax.lax.switch(jnp.asarray(self.group)[kind], self.branches, lanes, w)
        d = jnp.full(self.plan.tile, jnp.asarray(self.dims, jnp.int32)[kind])
        args = lanes.problem, lanes.lam, lanes.beta, d, *limits
        return jax.lax.cond(valid, measure, lambda *_: self.zeros(1, self.plan.tile)[0], *args)


def certificates(measured: Array) -> Certificate:
    """Unstacks measures of shape (tiles, fields, lanes)."""
    fields = Certificate(*measured.swapaxes(0, 1))
    return fields._replace(zeros=fields.zeros.astype(jnp.int32))
