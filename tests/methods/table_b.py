"""Rows of the contract table: a name and how to make the transformation."""

from functools import partial

import jax
import optax

import rvsmjax as rv
from rvsmjax import methods

SGD, ADAM = optax.sgd(0.1, momentum=0.9), optax.adam(0.05)
LINEAR = optax.linear_schedule(0.02, 0.1, 3)
STACKS = {"conv": "stack ... in out"}


def safe_on_a_quadratic(optimizer, penalty, rho, lam=1.0, *, radius=0.1, dual_every=2, metric=None, layout=None):
    """Returns ``safe`` with a ``grad_fn`` that passes on the gradient, plus a share of the way to the other point."""
    tx = methods.safe(optimizer, penalty, rho, lam, radius=radius, dual_every=dual_every, metric=metric, layout=layout)

    def update(updates, state, params=None, **extra):
        def grad_fn(other, _):
            return jax.tree.map(lambda g, a, b: g + (0.3 * (a - b)).astype(g.dtype), updates, other, params)

        return tx.update(updates, state, params, grad_fn=grad_fn, **extra)

    return optax.GradientTransformationExtraArgs(tx.init, update)


METHODS_B = {
    "bregman l1": partial(methods.bregman, SGD, rv.L1(), lam=0.05),
    "bregman groups": partial(methods.bregman, SGD, rv.Grouped(rv.L1(), "filters"), lam=0.05, delta=0.5, layout=STACKS),
    "bregman schedule": partial(
        methods.bregman, SGD, rv.TransformedL1(), lam=LINEAR, overrides={"head": {"penalty": rv.TopK(k=9)}}
    ),
    "proximal l1": partial(methods.proximal, SGD, rv.L1(), lam=0.5, rate=0.1),
    "proximal metric": partial(
        methods.proximal, ADAM, rv.L1(), lam=LINEAR, rate=LINEAR, metric="second_moment", layout=STACKS
    ),
    "proximal share": partial(
        methods.proximal, SGD, rv.L0(), rate=0.1, sparsity=0.6, overrides={"head": {"penalty": rv.NM(2, 4)}}
    ),
    "safe": partial(safe_on_a_quadratic, SGD, rv.TopK(sparsity=0.75), rho=0.5),
    "safe metric": partial(
        safe_on_a_quadratic,
        SGD,
        rv.TopK(sparsity=0.75),
        rho=0.5,
        metric=partial(jax.tree.map, lambda w: w**2 + 0.1),
        layout=STACKS,
    ),
    "elsa": partial(methods.elsa, ADAM, 0.75, rho=0.5, every=2),
    "elsa schedule": partial(
        methods.elsa, ADAM, rv.cubic_sparsity(0.75, 0, 3), rho=LINEAR, every=2, scope="global", state_dtype=None
    ),
}
