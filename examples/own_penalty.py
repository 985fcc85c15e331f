"""A custom penalty in ten lines, MCP, in a chain and in a sweep, compared with l1 and l0."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

import rvsmjax as rv


# The minimax concave penalty: |x| − x²/(2γ) up to γ, then γ/2. Its prox is firm thresholding; hard for steps > γ.
@dataclasses.dataclass(frozen=True)
class MCP(rv.Penalty):
    gamma: float = 2.0

    def value(self, x):
        return jnp.sum(jnp.where(jnp.abs(x) < self.gamma, jnp.abs(x) - x**2 / (2 * self.gamma), self.gamma / 2))

    def prox(self, v, step):
        firm = jnp.sign(v) * (jnp.abs(v) - step) / jnp.where(step < self.gamma, 1 - step / self.gamma, 1)
        return jnp.where(jnp.abs(v) > self.threshold(step), jnp.where(jnp.abs(v) < self.gamma, firm, v), 0)

    def threshold(self, step):
        return jnp.minimum(step, jnp.sqrt(step * self.gamma))


def main(seeds=1000):
    optimizer = optax.chain(rv.rvsm(MCP(), lam=0.05, beta=1.0), optax.sgd(0.1))
    w = jax.random.normal(jax.random.key(0), (20, 10))
    print("sparsity in a chain:", float(rv.sparsity(rv.sparse_params(optimizer.init(w), w)).total.fraction))

    grid = rv.Grid(penalty=["l1", MCP(0.1), MCP(1.0), "l0"], d=20, k=2, seeds=seeds)
    result = rv.run_sweep(grid, jax.random.key(0))
    for index, label in enumerate(grid.labels):
        angle, zeros = (result.data[name][index].mean() for name in ("theta_u", "zeros"))
        print(f"{label:16} angle of u to w* {angle:.4f}, zeros {zeros:.1f} of 20")
    return result


if __name__ == "__main__":
    main()
