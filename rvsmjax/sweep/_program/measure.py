"""The measures of limits: u, the penalty's envelope, the certificate."""

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
    """Returns w, w*, u and the envelope of the penalty at the limits of a tile; of any d where zeros do not count."""
    if kind.measured_with == kind.entries:
        kind = dataclasses.replace(kind, d=kind.rows)
    tile, _ = tile_of(kind, leaves, lanes)
    own, step = w[: kind.d], tile.lam / tile.beta
    u = jax.vmap(lambda penalty, v, s: penalty.prox(v, s), (0, 1, 0), 1)(tile.penalty, own, step)
    if kind.separable:
        each = jax.vmap(jax.vmap(moreau_envelope, (None, 0, None)), (0, 1, 0), 1)(tile.penalty, own, step)
        # Rule 5.
        by_row = plan.devices[0].platform == "cpu"
        envelope = tile._replace(unrolled=by_row).sum(lambda row: row, each)
    else:
        envelope = jax.vmap(moreau_envelope, (0, 1, 0))(tile.penalty, own, step)
    vectors = [jnp.pad(v, ((0, kind.rows - kind.d), (0, 0))) for v in (own, tile.w_star, u)]
    return *vectors, envelope


class Measures:
    """The certificates of a block's limits; kinds whose zeros do not count share code."""

    fields = len(Certificate._fields)

    def __init__(self, block: Block, leaves: list[list[Array]]) -> None:
        self.plan = block.plan
        groups = list(dict.fromkeys(kind.measured_with for kind in block.kinds))
        self.group = [groups.index(kind.measured_with) for kind in block.kinds]
        self.widths = [kind.d for kind in block.kinds]
        first = [self.group.index(g) for g in range(len(groups))]
        self.codes: list[Callable[..., Any]] = [
            functools.partial(_limits, self.plan, block.kinds[i], leaves[i]) for i in first
        ]
        # Rule 1.
        self.codes.append(lambda lanes, w: (w, w, w, w[0]))

    def room(self, tiles: int, lanes: int) -> Array:
        """Returns zeros for the measures of some tiles of some lanes."""
        return jnp.zeros((tiles, self.fields, lanes), self.plan.dtype)

    def __call__(self, kind: Array, lanes: Lanes, w: Array, there: Array) -> Array:
        """Returns the certificates of a tile, of shape (fields, lanes), counts of zeros as numbers too.

        Args:
          kind: of the tile.
          lanes: of the tile.
          w: of shape (rows, lanes), on the sphere.
          there: whether there is such a tile: a condition that is always true.
        """

        def measure(*of: Any) -> Array:
            found = jax.vmap(certificate_at, in_axes=(0, 0, 0, 0, 1, 1, 1, 0))(*of)
            # In one array: a loop that carries each apart is compiled for longer than it runs.
            return jnp.stack([jnp.asarray(value, self.plan.dtype) for value in found])

        # Rule 4.
        found = jax.lax.switch(jnp.asarray(self.group)[kind], self.codes, lanes, w)
        d = jnp.full(self.plan.tile, jnp.asarray(self.widths, jnp.int32)[kind])
        of = lanes.problem, lanes.lam, lanes.beta, d, *found
        return jax.lax.cond(there, measure, lambda *_: self.room(1, self.plan.tile)[0], *of)


def certificates(found: Array) -> Certificate:
    """Returns measures of shape (tiles, fields, lanes) by name."""
    by_name = Certificate(*found.swapaxes(0, 1))
    return by_name._replace(zeros=by_name.zeros.astype(jnp.int32))
