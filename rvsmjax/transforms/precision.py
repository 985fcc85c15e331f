"""The dtype in which a state holds arrays like the parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from rvsmjax import _checks
from rvsmjax._pytree import PyTree


def check_state_dtype(dtype: DTypeLike | None) -> jnp.dtype | None:
    """Returns ``dtype``, None for that of the parameters.

    Raises:
      ValueError: if it is neither None, bfloat16 nor float32.
    """
    if dtype is None:
        return None
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in ("bfloat16", "float32"):
        raise ValueError(f"state_dtype must be None, bfloat16 or float32, got {_checks.show(dtype)}")
    return jnp.dtype(name)


def rounded(tree: PyTree, dtype: jnp.dtype | None, count: Array) -> PyTree:
    """Returns the arrays of ``tree`` in ``dtype``, None for their own; to bfloat16 by stochastic rounding.

    It rounds up or down with probabilities that make its mean exact, so sums of steps under half a unit in the last
    place do not stall. The randomness is a function of ``count``, the number of updates, and of the leaf. A value that
    bfloat16 can represent, such as 0, stays as it is.
    """
    if dtype is None:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    if dtype != jnp.bfloat16:
        return jax.tree.unflatten(structure, [leaf.astype(dtype) for leaf in leaves])
    key = jax.random.fold_in(jax.random.key(0), count)
    halves = [_stochastically(leaf, jax.random.fold_in(key, i)) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, halves)


def _stochastically(values: Array, key: Array) -> Array:
    """Returns ``values`` rounded to bfloat16, the upper half of a float32: a random lower half is added before."""
    values = values.astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
    upper = (bits + jax.random.bits(key, values.shape, jnp.uint16).astype(jnp.uint32)) & jnp.uint32(0xFFFF0000)
    exact = jnp.where(jnp.isfinite(values), jax.lax.bitcast_convert_type(upper, jnp.float32), values)
    return exact.astype(jnp.bfloat16)


def change_to(update: Array, param: Array, new: Array) -> Array:
    """Returns new − param, the update that leads there, in the wider dtype of the two.

    In the dtype of a bfloat16 update, a float32 parameter that is to become 0 would miss it.
    """
    return (new.astype(param.dtype) - param).astype(jnp.promote_types(update.dtype, param.dtype))
