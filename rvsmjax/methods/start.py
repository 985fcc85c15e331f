"""A sparse start for methods that let weights join."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax import _checks
from rvsmjax._pytree import PyTree
from rvsmjax.transforms.leaves.selection import Mask
from rvsmjax.transforms.rules import mark_leaves


def sparse_start(params: optax.Params, share: float, key: Array, mask: Mask = None) -> PyTree:
    """Returns ``params`` with each selected component divided by √share with probability ``share``, and 0 otherwise.

    This keeps the variance of the components, and so that of the activations, as in He's or Glorot's initialization.

    Args:
      params: tree of arrays.
      share: expected share of nonzero components, in (0, 1].
      key: a key of ``jax.random``.
      mask: which leaves, see ``select``.

    Raises:
      ValueError: if ``share`` is outside (0, 1], or the mask does not fit.

    Source: Bungert et al., arXiv 2105.04319, sparse initialization.

    Example:
      >>> w = sparse_start({"kernel": jnp.ones((100, 100))}, 0.25, jax.random.key(0))["kernel"]
      >>> sorted(set(w.ravel().tolist())), abs(float(jnp.mean(w != 0)) - 0.25) < 0.02
      ([0.0, 2.0], True)
    """
    _checks.positive("share", share)
    _checks.share("share", share)
    marks = mark_leaves(params, mask, None)

    def thinned(index: int, w: Array) -> Array:
        kept = jax.random.bernoulli(jax.random.fold_in(key, index), share, w.shape)
        return jnp.where(kept, w / jnp.sqrt(share), 0).astype(w.dtype)

    rows = enumerate(zip(marks.rules, marks.leaves(params), strict=True))
    return marks.replace(params, [w if rule is None else thinned(i, w) for i, (rule, w) in rows])
