"""The lanes of a block: their draws, their order, and a tile of them."""

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
    """A tile's lanes as all kinds of a block have them: numbers of shape (lanes,), draws of shape (2, rows, lanes).

    Attributes:
      problem: the problem.
      lam: λ.
      beta: β.
      rate: η.
      entry: place among the kind's entries of the penalty axis.
      drawn: normal draws for w* and w⁰, zero beyond d.
      home: place in the kind's results, by entry, cell and seed as the grid has them; any for padding.
      live: whether it is a lane; else padding.
    """

    problem: OneLayerProblem
    lam: Array
    beta: Array
    rate: Array
    entry: Array
    drawn: Array
    home: Array
    live: Array


def draw(block: Block, seeds: Array, tiles: Array, key: Array) -> Array:
    """Returns normal draws for w* and w⁰ of every seed, of shape (seeds rounded up to tiles, 2, rows).

    Lanes of smaller d take the first d of the rows.
    """
    tile, rows = block.plan.tile, block.kinds[0].rows
    seeds = jnp.pad(seeds, (0, -len(seeds) % tile))

    def both(seed: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, seed), (2, rows), block.plan.dtype)

    def one(i: Array, stored: Array) -> Array:
        drawn = jax.vmap(both)(jax.lax.dynamic_slice_in_dim(seeds, i * tile, tile))
        return jax.lax.dynamic_update_slice_in_dim(stored, drawn, i * tile, 0)

    return jax.lax.fori_loop(0, tiles, one, jnp.zeros((len(seeds), 2, rows), block.plan.dtype))


def order_seeds(block: Block, draws: Array) -> Array:
    """Returns for each d of a block its seeds, of shape (widths, seeds), those first that begin far from w*.

    That angle tells most of how many steps a lane needs. It is sorted in as many bits as the seed's place leaves of a
    word: a sort of single words is compiled in a tenth of the time of one of pairs.
    """
    a, b = draws[: block.plan.lengths[-1]].swapaxes(0, 1)
    within = (jnp.arange(a.shape[1]) < jnp.asarray(block.widths)[:, None]).astype(a.dtype)
    each = jnp.concatenate([a * b, a * a, b * b])
    inner, square, square_star = jnp.split(jnp.matmul(within, each.T, precision=jax.lax.Precision.HIGHEST), 3, 1)
    near = inner * jax.lax.rsqrt(square * square_star)
    places = max(1, (a.shape[0] - 1).bit_length())
    most = max(0, 2 ** (32 - places) - 1)
    rank = jnp.minimum((jnp.clip(near, -1, 1) + 1).astype(jnp.float32) * np.float32(most / 2), most).astype(jnp.uint32)
    words = jnp.minimum(rank, most) << places | jnp.arange(a.shape[0], dtype=jnp.uint32)
    return (jax.lax.sort(words, dimension=1, is_stable=False) & (2**places - 1)).astype(jnp.int32)


def lanes_at(block: Block, axes: Any, cells: Array, draws: Array, orders: Array, kind: Array, place: Array) -> Lanes:
    """Returns the lanes at some places of this device's list of a kind.

    Places are by cell, in the order of ``cells``, then by entry of the penalty axis, then by seed in the order of the
    kind's d: slow ones first. Those past the last lane are padding.
    """
    plan = block.plan
    tile, column = divided(place, plan.tile)
    whole = (tile * len(plan.devices) + jax.lax.axis_index("lanes")) * plan.tile + column
    entries, seeds = jnp.asarray([len(k.entries) for k in block.kinds])[kind], plan.lengths[-1]
    live = whole < jnp.asarray(block.lanes)[kind]
    which, seed = divided(whole, seeds)
    rank, entry = divided(which, entries)
    cell = number = cells[jnp.minimum(rank, len(cells) - 1)]
    places: list[Array] = []
    for length in plan.lengths[-2::-1]:
        cell, at = divided(cell, length)
        places.insert(0, at)
    k, lam, beta, rate = (axes[name][place] for name, place in zip(INNER[:-1], places, strict=True))
    width = jnp.asarray([block.widths.index(k.d) for k in block.kinds])[kind]
    order, d = orders[width], jnp.asarray(block.widths)[width]
    problem = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, k.shape).astype(k.dtype), plan.problem(k))
    rate = rate if plan.given_rate else problem.largest_learning_rate(beta)
    place_of_seed = order[seed]
    drawn = jnp.moveaxis(draws[place_of_seed], 0, 2)
    drawn = jnp.where(jnp.arange(drawn.shape[1])[:, None] < d, drawn, 0)
    home = (entry * len(cells) + number) * seeds + place_of_seed
    return Lanes(problem, lam, beta, rate, entry, drawn, home, live)


def divided(a: Array, b: Array | int) -> tuple[Array, Array]:
    """Returns quotient and remainder of numbers >= 0; the signs that Python's operators heed cost code."""
    b = jnp.broadcast_to(jnp.asarray(b, a.dtype), a.shape)
    return jax.lax.div(a, b), jax.lax.rem(a, b)


def tile_of(kind: Kind, leaves: list[Array], lanes: Lanes) -> tuple[Tile, Array]:
    """Returns the lanes as a tile of their kind, and w⁰."""
    # Over all rows, zeros below d: in code that several d share the sum rounds as elsewhere.
    units = lanes.drawn * jax.lax.rsqrt(jnp.sum(lanes.drawn**2, 1, keepdims=True))
    w_star, w = units[:, : kind.d]
    penalty = jax.tree.unflatten(kind.penalty, [leaf[lanes.entry] for leaf in leaves])
    return Tile(lanes.problem, penalty, lanes.lam, lanes.beta, lanes.rate, w_star, kind.normalize), w
