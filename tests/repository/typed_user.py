"""User code for the library; every name has a type."""

import dataclasses
from typing import assert_type

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

import rvsmjax as rv
from rvsmjax import nets


@dataclasses.dataclass(frozen=True)
class Ridge(rv.Penalty):
    weight: float = 1.0

    def value(self, x: ArrayLike) -> Array:
        return 0.5 * self.weight * jnp.sum(jnp.square(x))

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        return jnp.asarray(v) / (1 + step * self.weight)

    def threshold(self, step: ArrayLike) -> Array:
        return jnp.zeros_like(step)


def train(params: dict[str, Array], penalty: rv.Penalty) -> dict[str, Array]:
    optimizer = rv.rvsm(penalty, lam=1e-4, beta=1e-2)
    state = optimizer.init(params)
    _, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
    u: dict[str, Array] = rv.sparse_params(state, params)
    return u


u = train({"kernel": jnp.ones((8, 4))}, Ridge(2.0))
table = rv.sparsity(u)
share: Array = table.total.fraction
rv.save_npz("u.npz", {"u": u, "mask": rv.sparsity_mask(u)})
broken: dict[str, int] = rv.nm_violations(u)
grid = rv.Grid(penalty=["l1", Ridge()], d=[10, 20], k=2, seeds=10)
result = rv.run_sweep(grid, jax.random.key(0))
assert_type(result, rv.SweepResult)
limit = rv.solve(rv.NoOverlapReLU(k=2), rv.rvsm(rv.L1(), 1e-4, 4e-3), jnp.ones(3), jnp.ones(3))
assert_type(limit, rv.Solution)
network = nets.shrink(nets.LeNet(rngs=nnx.Rngs(0)))
assert_type(network, nets.LeNet)

# What is wrong below is reported; so is an ignore that is not needed.
rv.rvsm("l1", 1e-4, 4e-3)  # type: ignore[arg-type]
rv.NM("2", 4)  # type: ignore[arg-type]
rv.save_npz(3, u)  # type: ignore[arg-type]
rv.Grid(penalties="l1")  # type: ignore[call-arg]
nets.shrink(nets.ResNet(rngs=nnx.Rngs(0)))  # type: ignore[type-var]
