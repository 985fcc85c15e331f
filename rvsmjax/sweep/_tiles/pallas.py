"""The run of a tile as a Pallas kernel: w stays in registers from the start to the limit, and blocks stop alone.

The iteration is that of ``step``, which XLA's loop runs too; this file alone knows Pallas.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl

from rvsmjax.sweep._tiles.step import Tile

ENTRIES = 8192
"""Of w in a block: with w* as many, 128 registers in each of 128 threads."""
MOST_ROWS = 512
"""Beyond, a block would have too few lanes; XLA's loop runs such tiles."""

Loop = Callable[..., tuple[Array, Array, Array, Array]]
"""(tile, w, steps, status, budget, tol, max_steps) -> (w, steps run, steps of each lane, status of each lane)."""


def fits(d: int, separable: bool) -> bool:
    """Tells whether tiles of this d, with this kind of penalty, run in the kernel."""
    return separable and _rows(d) <= MOST_ROWS


def lanes_of_a_block(d: int) -> int:
    """Returns the number of lanes that stop together."""
    return min(128, ENTRIES // _rows(d))


def run(
    loop: Loop, tile: Tile, w: Array, steps: Array, status: Array, tol: Array, max_steps: Array, interpret: bool
) -> tuple[Array, Array, Array, Array]:
    """Returns what ``loop`` makes of a tile, block by block: w, the steps run summed over blocks, steps, status.

    Args:
      loop: the loop of a block.
      tile: of n lanes, a multiple of ``lanes_of_a_block``.
      w: of shape (d, n).
      steps: of shape (n,), so far.
      status: of shape (n,), so far.
      tol: residual at which a lane ends.
      max_steps: step cap.
      interpret: whether to run as plain JAX, which needs no GPU.
    """
    d, n = w.shape
    block = lanes_of_a_block(d)
    # Rows of zeros add nothing to a sum and stay zero; Triton wants powers of two.
    padding = ((0, _rows(d) - d), (0, 0))
    numbers = (tile.problem, tile.penalty, tile.lam, tile.beta, tile.learning_rate)
    leaves, structure = jax.tree.flatten(numbers)

    def kernel(*refs: Any) -> None:
        tol, cap, w, w_star, before, state, *rest = refs
        own, (w_out, steps, status, executed) = rest[: len(leaves)], rest[len(leaves) :]
        problem, penalty, lam, beta, rate = jax.tree.unflatten(structure, [ref[...] for ref in own])
        part = Tile(problem, penalty, lam, beta, rate, w_star[...], tile.normalize)
        found, count, *ends = loop(part, w[...], before[...], state[...], 2**30, tol[0], cap[0])
        w_out[...] = found
        steps[...], status[...] = ends
        executed[...] = jnp.full(1, count)

    vectors, lanes = pl.BlockSpec((_rows(d), block), lambda i: (0, i)), pl.BlockSpec((block,), lambda i: (i,))
    number, one = pl.BlockSpec((1,), lambda i: (0,)), pl.BlockSpec((1,), lambda i: (i,))
    whole = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.int32)
    found, ends, states, executed = pl.pallas_call(
        kernel,
        grid=(n // block,),
        in_specs=[number, number, vectors, vectors, lanes, lanes, *[lanes] * len(leaves)],
        out_specs=[vectors, lanes, lanes, one],
        out_shape=[jax.ShapeDtypeStruct((_rows(d), n), w.dtype), whole((n,)), whole((n,)), whole((n // block,))],
        # Names the backend: without these, some versions of JAX lower to Mosaic GPU, which lacks what is used here.
        compiler_params=None if interpret else _triton().CompilerParams(num_warps=4),
        interpret=interpret,
    )(
        jnp.reshape(tol, 1),
        jnp.reshape(max_steps, 1),
        jnp.pad(w, padding),
        jnp.pad(tile.w_star, padding),
        steps,
        status.astype(jnp.int32),
        *leaves,
    )
    return found[:d], jnp.sum(executed, dtype=jnp.int32), ends, states.astype(jnp.int8)


def available() -> bool:
    """Tells whether this version of JAX has the backend that the kernel is written for."""
    try:
        return hasattr(_triton(), "CompilerParams")
    except ImportError:
        return False


def _triton() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # to be removed: then ``available`` says so
        return importlib.import_module("jax.experimental.pallas.triton")  # noqa: TID251 -- of JAX


def _rows(d: int) -> int:
    return 1 << (d - 1).bit_length()
