"""PTX of the CUDA kernel for one kind of lanes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from rvsmjax.sweep._tiles import cuda, loop
from rvsmjax.sweep._tiles.step import Tile
from rvsmjax.sweep.grid import PENALTIES, PROBLEMS


def kernel_text(
    penalty: str, activation: str = "relu", d: int = 50, normalize: bool = True, lanes: int = 262_144
) -> tuple[str, float]:
    """Returns the kernel as PTX and the mean number of components per thread.

    Args:
      penalty: name of a penalty, as in ``Grid``.
      activation: name of a problem, as in ``Grid``.
      d: dimension of w.
      normalize: whether w is normalised after each step.
      lanes: lanes of the tile.
    """
    structure, count = jax.tree.structure(PENALTIES[penalty]()), len(jax.tree.leaves(PENALTIES[penalty]()))
    lane, lane_int = (jax.ShapeDtypeStruct((lanes,), dtype) for dtype in (jnp.float32, jnp.int32))
    vector, scalar = jax.ShapeDtypeStruct((d, lanes), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    texts = []

    def translate(w: Array, w_star: Array, steps: Array, tol: Array, *lanes: Array) -> Array:
        k, lam, beta, rate, *leaves = lanes
        instance = jax.tree.unflatten(structure, leaves)
        tile = Tile(PROBLEMS[activation](k), instance, lam, beta, rate, w_star, normalize)
        texts.append(cuda.source(loop.check, loop.CHECK_EVERY, tile, w, steps, steps, tol)[0])
        return w

    jax.eval_shape(translate, vector, vector, lane_int, scalar, *[lane] * (4 + count))
    return texts[0], d / cuda.threads_per_lane(d)
