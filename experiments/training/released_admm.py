"""What the authors' released code does beside the papers, kept to measure what it makes of the results."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

import rvsmjax as rv


@dataclasses.dataclass(frozen=True)
class SignedPercentile(rv.Penalty):
    """A projection that sets to 0 what is smaller in magnitude than a percentile of the *signed* components.

    Of a sample that is symmetric about 0 a share ``sparsity`` p is meant and max(2p − 1, 0) is had: 60 % at p = 0.8.

    Args:
      sparsity: p in (0, 1).

    Source: the ADMM of the authors' released code for I.
    """

    sparsity: float | Array

    def value(self, x: ArrayLike) -> Array:
        """Returns 0: there is no set whose indicator this would be."""
        return jnp.zeros((), jnp.asarray(x).dtype)

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """Returns ``v`` without its small components, whatever the step."""
        v = jnp.asarray(v)
        return jnp.where(jnp.abs(v) < jnp.quantile(v, self.sparsity), 0, v)

    def threshold(self, step: ArrayLike) -> Array:
        """Raises NotImplementedError: the threshold depends on the components."""
        raise NotImplementedError("SignedPercentile has no fixed threshold; call prox")
