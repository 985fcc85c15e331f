"""Pallas kernel that runs a tile to its limits: w stays in registers, and each block stops independently.

The kernel runs ``loop.run``, the same loop as XLA.
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
"""Entries of w in a block: with w* they take 128 registers in each of 128 threads."""
MOST_ROWS = 512
"""Largest padded d: beyond it a block would hold too few lanes, and XLA's loop runs the tile."""

Loop = Callable[..., tuple[Array, Array, Array, Array]]
"""(tile, w, steps, status, budget, tol, max_steps) -> (w, steps executed, steps, status), see ``loop.run``."""


def fits(d: int, separable: bool) -> bool:
    """Returns whether the kernel supports this d and penalty."""
    return separable and _rows(d) <= MOST_ROWS


def lanes_per_block(d: int) -> int:
    """Returns the number of lanes in a block, which stop together."""
    return min(128, ENTRIES // _rows(d))


def run(
    loop: Loop, tile: Tile, w: Array, steps: Array, status: Array, tol: Array, max_steps: Array, interpret: bool
) -> tuple[Array, Array, Array, Array]:
    """Runs ``loop`` on each block of a tile; returns w, the steps executed summed over blocks, steps, status.

    Args:
      loop: loop over a tile, run on each block.
      tile: tile of n lanes, a multiple of ``lanes_per_block``.
      w: iterates of shape (d, n).
      steps: steps so far, of shape (n,).
      status: status so far, of shape (n,).
      tol: convergence threshold.
      max_steps: step cap.
      interpret: whether to run as plain JAX, without a GPU.
    """
    d, n = w.shape
    block = lanes_per_block(d)
    # Triton requires powers of two; rows of zeros add nothing to a sum and stay zero.
    padding = ((0, _rows(d) - d), (0, 0))
    parameters = (tile.problem, tile.penalty, tile.lam, tile.beta, tile.learning_rate)
    leaves, structure = jax.tree.flatten(parameters)

    def kernel(*refs: Any) -> None:
        tol, cap, w, w_star, steps, status, *rest = refs
        inputs, (w_out, steps_out, status_out, executed_out) = rest[: len(leaves)], rest[len(leaves) :]
        problem, penalty, lam, beta, rate = jax.tree.unflatten(structure, [ref[...] for ref in inputs])
        part = Tile(problem, penalty, lam, beta, rate, w_star[...], tile.normalize)
        limit, executed, *ends = loop(part, w[...], steps[...], status[...], 2**30, tol[0], cap[0])
        w_out[...] = limit
        steps_out[...], status_out[...] = ends
        executed_out[...] = jnp.full(1, executed)

    vectors, lanes = pl.BlockSpec((_rows(d), block), lambda i: (0, i)), pl.BlockSpec((block,), lambda i: (i,))
    scalar, per_block = pl.BlockSpec((1,), lambda i: (0,)), pl.BlockSpec((1,), lambda i: (i,))
    int32 = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.int32)
    limits, steps, status, executed = pl.pallas_call(
        kernel,
        grid=(n // block,),
        in_specs=[scalar, scalar, vectors, vectors, lanes, lanes, *[lanes] * len(leaves)],
        out_specs=[vectors, lanes, lanes, per_block],
        out_shape=[jax.ShapeDtypeStruct((_rows(d), n), w.dtype), int32((n,)), int32((n,)), int32((n // block,))],
        # Selects Triton: some versions of JAX default to Mosaic GPU, which does not support this kernel.
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
    return limits[:d], jnp.sum(executed, dtype=jnp.int32), steps, status.astype(jnp.int8)


def available() -> bool:
    """Returns whether this version of JAX has the Triton backend of Pallas."""
    try:
        return hasattr(_triton(), "CompilerParams")
    except ImportError:
        return False


def _triton() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # ``available`` reports its removal
        return importlib.import_module("jax.experimental.pallas.triton")  # noqa: TID251 -- of JAX


def _rows(d: int) -> int:
    return 1 << (d - 1).bit_length()
