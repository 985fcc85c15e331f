"""Lanes of a block: their random draws, their order, and the tiles they form."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rvsmjax.problems import OneLayerProblem
from rvsmjax.sweep._program.plan import INNER, Block, Kind
from rvsmjax.sweep._tiles.step import Tile


class Lanes(NamedTuple):
    """The lanes of a tile in the layout common to all kinds of a block; fields have shape (lanes,) unless stated.

    Attributes:
      problem: the problem.
      lam: λ.
      beta: β.
      rate: η.
      entry: index into ``Kind.entries``.
      normals: normal draws for w* and w⁰, zero beyond d, of shape (2, rows, lanes).
      grid_index: index in the kind's results in grid order (entry, cell, seed); arbitrary for padding.
      live: mask of lanes, False for padding.
    """

    problem: OneLayerProblem
    lam: Array
    beta: Array
    rate: Array
    entry: Array
    normals: Array
    grid_index: Array
    live: Array


def draw(block: Block, seeds: Array, tiles: Array, key: Array) -> Array:
    """Returns normal draws for w* and w⁰ of every seed, of shape (seeds padded to full tiles, 2, rows).

    Lanes of smaller d use the first d rows.
    """
    tile, rows = block.plan.tile, block.kinds[0].rows
    seeds = jnp.pad(seeds, (0, -len(seeds) % tile))

    def normals(seed: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, seed), (2, rows), block.plan.dtype)

    def draw_tile(i: Array, stored: Array) -> Array:
        drawn = jax.vmap(normals)(jax.lax.dynamic_slice_in_dim(seeds, i * tile, tile))
        return jax.lax.dynamic_update_slice_in_dim(stored, drawn, i * tile, 0)

    return jax.lax.fori_loop(0, tiles, draw_tile, jnp.zeros((len(seeds), 2, rows), block.plan.dtype))


def order_seeds(block: Block, draws: Array) -> Array:
    """Returns seed indices for each d of a block, of shape (dims, seeds), sorted by descending angle between w⁰ and w*.

    That angle largely determines how many steps a lane takes. Its quantised rank and the seed index are packed into one
    32-bit sort key: sorting single words compiles ten times faster than sorting pairs.
    """
    a, b = draws[: block.plan.lengths[-1]].swapaxes(0, 1)
    within = (jnp.arange(a.shape[1]) < jnp.asarray(block.dims)[:, None]).astype(a.dtype)
    products = jnp.concatenate([a * b, a * a, b * b])
    inner, square, square_star = jnp.split(jnp.matmul(within, products.T, precision=jax.lax.Precision.HIGHEST), 3, 1)
    cosine = inner * jax.lax.rsqrt(square * square_star)
    index_bits = max(1, (a.shape[0] - 1).bit_length())
    top = max(0, 2 ** (32 - index_bits) - 1)
    rank = jnp.minimum((jnp.clip(cosine, -1, 1) + 1).astype(jnp.float32) * np.float32(top / 2), top).astype(jnp.uint32)
    keys = jnp.minimum(rank, top) << index_bits | jnp.arange(a.shape[0], dtype=jnp.uint32)
    return (jax.lax.sort(keys, dimension=1, is_stable=False) & (2**index_bits - 1)).astype(jnp.int32)


def lanes_at(block: Block, axes: Any, cells: Array, draws: Array, orders: Array, kind: Array, index: Array) -> Lanes:
    """Returns the lanes at ``index`` in this device's queue of a kind; indices past the last lane are padding.

    A queue is ordered by cell (as in ``cells``), then by entry of the penalty axis, then by seed (as in ``orders`` for
    the kind's d), the slowest first. Tiles alternate between devices.
    """
    plan = block.plan
    tile, column = div_rem(index, plan.tile)
    position = (tile * len(plan.devices) + jax.lax.axis_index("lanes")) * plan.tile + column
    entries, seeds = jnp.asarray([len(k.entries) for k in block.kinds])[kind], plan.lengths[-1]
    live = position < jnp.asarray(block.lanes)[kind]
    row, seed_rank = div_rem(position, seeds)
    cell_rank, entry = div_rem(row, entries)
    rest = cell = cells[jnp.minimum(cell_rank, len(cells) - 1)]
    axis_indices: list[Array] = []
    for length in plan.lengths[-2::-1]:
        rest, i = div_rem(rest, length)
        axis_indices.insert(0, i)
    k, lam, beta, rate = (axes[name][i] for name, i in zip(INNER[:-1], axis_indices, strict=True))
    dim = jnp.asarray([block.dims.index(k.d) for k in block.kinds])[kind]
    order, d = orders[dim], jnp.asarray(block.dims)[dim]
    problem = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, k.shape).astype(k.dtype), plan.problem(k))
    rate = rate if plan.given_rate else problem.largest_learning_rate(beta)
    seed = order[seed_rank]
    normals = jnp.moveaxis(draws[seed], 0, 2)
    normals = jnp.where(jnp.arange(normals.shape[1])[:, None] < d, normals, 0)
    grid_index = (entry * len(cells) + cell) * seeds + seed
    return Lanes(problem, lam, beta, rate, entry, normals, grid_index, live)


def div_rem(a: Array, b: Array | int) -> tuple[Array, Array]:
    """Returns quotient and remainder of integers >= 0, without the sign handling of ``//`` and ``%``."""
    b = jnp.broadcast_to(jnp.asarray(b, a.dtype), a.shape)
    return jax.lax.div(a, b), jax.lax.rem(a, b)


def tile_of(kind: Kind, leaves: list[Array], lanes: Lanes) -> tuple[Tile, Array]:
    """Returns the lanes as a tile of their kind, and w⁰."""
    # Sums over all padded rows (rule 3), so code shared by several d rounds alike.
    units = lanes.normals * jax.lax.rsqrt(jnp.sum(lanes.normals**2, 1, keepdims=True))
    w_star, w = units[:, : kind.d]
    penalty = jax.tree.unflatten(kind.penalty, [leaf[lanes.entry] for leaf in leaves])
    return Tile(lanes.problem, penalty, lanes.lam, lanes.beta, lanes.rate, w_star, kind.normalize), w
