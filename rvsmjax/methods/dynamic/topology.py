"""Random supports with given counts, and their change: drop the smallest weights, grow as many others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from rvsmjax._pytree import PyTree
from rvsmjax._sharding import automatic
from rvsmjax.geometry import working_dtype
from rvsmjax.methods.dynamic.densities import live_counts
from rvsmjax.penalties._arranged import OTHER, Axes, stack_shape
from rvsmjax.penalties._largest import largest
from rvsmjax.transforms.leaves.layouts import is_masked
from rvsmjax.transforms.leaves.marks import Marks


def counts_of(marks: Marks, tree: PyTree, sparsity: float, distribution: str) -> Array:
    """Returns the number of live weights of each marked leaf, or of each slice of a stack, a vector."""
    leaves = marks.marked(tree)
    pairs = zip(leaves, _axes(marks, leaves), strict=True)
    shapes = [axes.slice_shape(x.shape) for x, axes in pairs for _ in range(_slices(x, axes))]
    return jnp.asarray(live_counts(shapes, sparsity, distribution), jnp.int32)


def random_scores(marks: Marks, tree: PyTree, seed: ArrayLike, count: ArrayLike) -> list[Array]:
    """Returns uniform random numbers for each marked leaf, a function of the seed and the number of updates."""

    def draw(leaves: list[Array], seed: Array, count: Array) -> list[Array]:
        key = jax.random.fold_in(jax.random.key(seed), count)
        return [jax.random.uniform(jax.random.fold_in(key, i), x.shape) for i, x in enumerate(leaves)]

    return automatic(draw, marks.marked(tree), jnp.asarray(seed), jnp.asarray(count))


def top(marks: Marks, scores: Sequence[Array], counts: Array) -> list[Array]:
    """Returns masks of the largest scores, as many in each leaf or slice as ``counts`` says; ties to the first."""

    def together(leaves: list[Array], counts: Array) -> list[Array]:
        pairs = list(zip(leaves, _axes(marks, leaves), strict=True))
        found = iter(largest([part for x, axes in pairs for part in axes.split(x)], counts))
        return [axes.joined([next(found) for _ in range(_slices(x, axes))], x.shape) for x, axes in pairs]

    return automatic(together, scores, counts) if scores else []


def rewired(
    marks: Marks,
    support: Sequence[Array],
    weights: Sequence[Array],
    scores: Sequence[Array],
    counts: Array,
    share: Array,
) -> list[Array]:
    """Returns the support without the smallest share of the live weights, and with as many of the largest scores.

    A weight may be live at the value 0. Each leaf or slice keeps its number of live weights.

    Args:
      marks: marks of the parameters.
      support: masks of the live weights of the marked leaves, ``counts`` of them in each leaf or slice.
      weights: the weights of the marked leaves.
      scores: what to grow by, the magnitudes: among all weights that are not live after the drop.
      counts: number of live weights, a vector.
      share: fraction of the live weights to drop.
    """
    dropped = jnp.round(share * counts).astype(jnp.int32)
    pairs = zip(support, weights, strict=True)
    kept = top(marks, [jnp.where(live, _positive(w), 0) for live, w in pairs], counts - dropped)
    pairs = zip(kept, scores, strict=True)
    grown = top(marks, [jnp.where(live, 0, _positive(score)) for live, score in pairs], dropped)
    return [old | new for old, new in zip(kept, grown, strict=True)]


def restarted(
    optimizer: optax.GradientTransformation, state: optax.OptState, params: optax.Params, fresh: PyTree
) -> optax.OptState:
    """Returns the state of an optimizer whose entries for some components are as after ``init``.

    Args:
      optimizer: the optimizer.
      state: its state.
      params: the parameters.
      fresh: tree like the parameters: masks of the components, or False for a whole leaf.
    """

    def flag(entry: PyTree, new: Array | bool) -> PyTree:
        if is_masked(entry):
            return entry
        return new if jnp.shape(entry) == jnp.shape(new) and jnp.ndim(new) else False  # factored moments stay

    flags = optax.tree.map_params(
        optimizer, flag, state, fresh, transform_non_params=lambda _: False, is_leaf=is_masked
    )
    first = optimizer.init(params)
    return jax.tree.map(lambda at, old, new: old if at is False else jnp.where(at, new, old), flags, state, first)


def _positive(x: Array) -> Array:
    """Returns magnitudes above 0, so that a score of 0 is less than any."""
    dtype = working_dtype(x)
    return jnp.maximum(jnp.abs(x).astype(dtype), jnp.finfo(dtype).tiny)


def _axes(marks: Marks, leaves: Sequence[Array]) -> list[Axes]:
    """Returns the axes of each marked leaf."""
    of = [axes for axes, rule in zip(marks.axes, marks.rules, strict=True) if rule is not None]
    return [Axes((OTHER,) * x.ndim) if axes is None else axes for x, axes in zip(leaves, of, strict=True)]


def _slices(x: Array, axes: Axes) -> int:
    return math.prod(stack_shape(axes, x.shape))
