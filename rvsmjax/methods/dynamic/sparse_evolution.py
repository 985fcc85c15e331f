"""Sparse evolutionary training: the pattern moves at random."""

from __future__ import annotations

import optax
from jax import Array
from jax.typing import ArrayLike

from rvsmjax.methods.dynamic.topology import random_scores
from rvsmjax.methods.dynamic.training import dynamic
from rvsmjax.transforms.leaves.layouts import Layout
from rvsmjax.transforms.leaves.marks import Marks
from rvsmjax.transforms.leaves.selection import Mask


def sparse_evolution(
    optimizer: optax.GradientTransformation,
    sparsity: float,
    *,
    steps: int,
    every: int = 100,
    fraction: ArrayLike = 0.3,
    distribution: str = "erk",
    seed: ArrayLike = 0,
    mask: Mask = None,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns ``optimizer`` on a sparse pattern that moves at random: sparse evolutionary training, SET.

    As ``rigl``, with its arguments and errors, but a leaf grows random weights. In the paper the fraction is constant
    and the pattern moves after each epoch, until the end.

    Source: D. C. Mocanu et al., arXiv 1707.04780, Algorithm 1.

    Example:
      >>> import jax.numpy as jnp, rvsmjax as rv
      >>> w = jnp.ones((8, 8))
      >>> tx = rv.methods.sparse_evolution(optax.sgd(0.1), 0.75, steps=400)
      >>> updates, state = tx.update(w, tx.init(w), w)
      >>> int(jnp.sum(w + updates == 0))
      48
    """

    def scores(marks: Marks, gradients: optax.Updates, count: Array) -> list[Array]:
        return random_scores(marks, gradients, seed, count)  # those of count 0 are the first pattern's

    return dynamic(
        "sparse_evolution", scores, optimizer, sparsity, steps, every, fraction, distribution, seed, mask, layout
    )
