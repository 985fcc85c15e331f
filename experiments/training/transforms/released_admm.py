"""Projection of the authors' released ADMM code, which differs from the paper; kept to measure its effect."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

import rvsmjax as rv
from rvsmjax.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class SignedPercentile(rv.Penalty):
    """Projection that zeroes components smaller in magnitude than a percentile of the *signed* components.

    Components symmetric about 0 get the sparsity max(2p − 1, 0) instead of the intended p: 60 % at p = 0.8.

    Args:
      sparsity: p in (0, 1), in ``rv.admm`` also a schedule.

    Source: the ADMM of the authors' released code for I.
    """

    sparsity: float | Array | Schedule

    def value(self, x: ArrayLike) -> Array:
        """Returns 0: the projection has no constraint set."""
        return jnp.zeros((), jnp.asarray(x).dtype)

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns ``v`` with its small components set to zero, for any step."""
        v = jnp.asarray(v)
        share: Any = self.sparsity
        return jnp.where(jnp.abs(v) < jnp.quantile(v, share), 0, v)

    def threshold(self, step: ArrayLike) -> Array:
        """Raises NotImplementedError: the threshold depends on the components."""
        raise NotImplementedError("SignedPercentile has no fixed threshold; call prox")
