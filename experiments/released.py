"""What the authors' released code does beside the papers, kept to measure what it makes of the results."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
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

    sparsity: float

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


class OverwriteState(NamedTuple):
    """Number of updates, and the state of the splitting that says what u is."""

    updates: Array
    splitting: Any


def overwrite_by_u(transform: optax.GradientTransformation, every: int) -> optax.GradientTransformation:
    """Returns a transformation, last in a chain, after which every so many steps the parameters are u.

    Args:
      transform: ``rvsm`` as it stands in the chain.
      every: steps of an epoch.
    """

    def init(params: optax.Params) -> OverwriteState:
        return OverwriteState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, transform.init(params)))

    def update(
        updates: optax.Updates, state: OverwriteState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, OverwriteState]:
        new = optax.apply_updates(params, updates)
        count = optax.safe_increment(state.updates)
        # Its λ and β may be schedules; the updates it makes are not used here.
        _, splitting = transform.update(updates, state.splitting, params)

        def sparse() -> Any:
            u = rv.sparse_params(splitting, new)
            return jax.tree.map(lambda x, w: (x - w).astype(w.dtype), u, params)

        updates = jax.lax.cond(count % every == 0, sparse, lambda: updates)
        return updates, OverwriteState(count, splitting)

    return optax.GradientTransformation(init, update)
