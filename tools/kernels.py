"""Generates the CUDA kernel for one kind of lane."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from rvsmjax.sweep import cuda, loop
from rvsmjax.sweep.grid import PENALTIES, PROBLEMS
from rvsmjax.sweep.step import Tile


def kernel_text(
    penalty: str, activation: str = "relu", d: int = 50, normalize: bool = True, lanes: int = 262_144
) -> tuple[str, float]:
    """Returns the kernel as PTX, and the average number of components per thread.

    Args:
      penalty: a penalty name, see ``Grid``.
      activation: an activation name, see ``Grid``.
      d: dimension.
      normalize: whether to normalize w after each step.
      lanes: lanes per tile.
    """
    structure = jax.tree.structure(PENALTIES[penalty]())
    lane, lane_int = (jax.ShapeDtypeStruct((lanes,), dtype) for dtype in (jnp.float32, jnp.int32))
    vector, number = jax.ShapeDtypeStruct((d, lanes), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    texts = []

    def written(w: Array, w_star: Array, steps: Array, tol: Array, *rest: Array) -> Array:
        k, lam, beta, rate, *leaves = rest
        like = jax.tree.unflatten(structure, leaves)
        tile = Tile(PROBLEMS[activation](k), like, lam, beta, rate, w_star, normalize)
        texts.append(cuda.source(loop.judge, loop.CHECK_EVERY, tile, w, steps, steps, tol)[0])
        return w

    jax.eval_shape(written, vector, vector, lane_int, number, *[lane] * (4 + structure.num_leaves))
    return texts[0], d / cuda.threads_of_a_lane(d)
