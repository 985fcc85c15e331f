"""The rows of the contract table for the methods of others, with what the contract tests must know of each."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import rvsmjax as rv
from rvsmjax import methods

OPTIMIZER = optax.sgd(0.1, momentum=0.9)
LINEAR = optax.linear_schedule(0.02, 0.1, 3)
STACKS = {"conv": "stack ... in out"}


class Moment(NamedTuple):
    """State with a second moment."""

    nu: optax.Updates


def with_moment():
    """Returns ``OPTIMIZER`` with a second moment, which it does not use."""

    def update(updates, state, params=None):
        nu = jax.tree.map(lambda v, g: (0.9 * v + 0.1 * g**2).astype(v.dtype), state.nu, updates)
        return updates, Moment(nu)

    moment = optax.GradientTransformation(lambda params: Moment(jax.tree.map(jnp.zeros_like, params)), update)
    return optax.chain(moment, OPTIMIZER)


MOMENT = with_moment()


class Parts(NamedTuple):
    """State of a chain of two, which the contract tests tell apart."""

    split: rv.transforms.ADMMState
    inner_state: optax.OptState


def safe_on_a_quadratic(optimizer, penalty, rho, lam=1.0, *, radius=0.1, dual_every=2, metric=None, layout=None):
    """Returns ``safe`` with a ``grad_fn`` that passes on the gradient, plus a share of the way to the other point."""
    tx = methods.safe(optimizer, penalty, rho, lam, radius=radius, dual_every=dual_every, metric=metric, layout=layout)

    def update(updates, state, params=None, **extra):
        def there(g, other, w):
            return g + 0.3 * jnp.nan_to_num(other - w).astype(g.dtype)

        def grad_fn(other, _):
            return jax.tree.map(there, updates, other, params)

        steps, new = tx.update(updates, tuple(state), params, grad_fn=grad_fn, **extra)
        return steps, Parts(*new)

    return optax.GradientTransformationExtraArgs(lambda params: Parts(*tx.init(params)), update)


safe_on_a_quadratic.of = methods.safe
RISING = rv.cubic_sparsity(0.75, begin=0, end=3)

TABLE = {
    "gradual pruning": partial(methods.gradual_pruning, rv.TopK(sparsity=RISING, scope="global"), every=2),
    "gradual pruning n of m": partial(
        methods.gradual_pruning,
        rv.NM(2, 4),
        overrides={"conv": {"penalty": rv.Grouped(rv.TopK(sparsity=0.5), "filters")}},
        layout=STACKS,
    ),
    "rigl": partial(methods.rigl, OPTIMIZER, 0.6, steps=8, every=2),
    "rigl of slices": partial(methods.rigl, OPTIMIZER, 0.6, steps=8, every=2, distribution="uniform", layout=STACKS),
    "sparse evolution": partial(methods.sparse_evolution, OPTIMIZER, 0.6, steps=8, every=2),
    "ac dc": partial(methods.ac_dc, OPTIMIZER, rv.TopK(sparsity=0.75, scope="global"), steps=8, period=1),
    "ac dc slices": partial(
        methods.ac_dc,
        OPTIMIZER,
        rv.NM(2, 4),
        steps=8,
        period=2,
        layout=STACKS,
        overrides={"head": {"penalty": rv.TopK(sparsity=RISING)}},
    ),
    "sr ste": partial(methods.sr_ste, OPTIMIZER, 2, 4, 0.05),
    "sr ste of slices": partial(methods.sr_ste, OPTIMIZER, 1, 4, LINEAR, layout=STACKS),
    "soft threshold": partial(methods.soft_threshold_reparametrization, OPTIMIZER, 0.05, initial=-2.0),
    "soft threshold of slices": partial(
        methods.soft_threshold_reparametrization, OPTIMIZER, LINEAR, thresholds=optax.sgd(0.2), layout=STACKS
    ),
    "bregman l1": partial(methods.bregman, OPTIMIZER, rv.L1(), lam=0.05),
    "bregman groups": partial(
        methods.bregman, OPTIMIZER, rv.Grouped(rv.L1(), "filters"), lam=0.05, delta=0.5, layout=STACKS
    ),
    "bregman schedule": partial(
        methods.bregman, OPTIMIZER, rv.TransformedL1(), lam=LINEAR, overrides={"head": {"penalty": rv.TopK(k=9)}}
    ),
    "proximal l1": partial(methods.proximal, OPTIMIZER, rv.L1(), lam=0.5, rate=0.1),
    "proximal metric": partial(
        methods.proximal, MOMENT, rv.L1(), lam=LINEAR, rate=LINEAR, metric="second_moment", layout=STACKS
    ),
    "proximal share": partial(
        methods.proximal, OPTIMIZER, rv.L0(), rate=0.1, sparsity=0.6, overrides={"head": {"penalty": rv.NM(2, 4)}}
    ),
    "safe": partial(safe_on_a_quadratic, OPTIMIZER, rv.TopK(sparsity=0.75), rho=0.5),
    "safe metric": partial(
        safe_on_a_quadratic,
        OPTIMIZER,
        rv.TopK(sparsity=0.75),
        rho=0.5,
        metric=partial(jax.tree.map, lambda w: w**2 + 0.1),
        layout=STACKS,
    ),
    "elsa": partial(methods.elsa, MOMENT, 0.75, rho=0.5, every=2),
    "elsa schedule": partial(
        methods.elsa, MOMENT, rv.cubic_sparsity(0.75, 0, 3), rho=LINEAR, every=2, scope="global", state_dtype=None
    ),
}
AROUND = ("rigl", "sparse evolution", "ac dc", "sr ste", "soft threshold", "bregman", "proximal", "safe", "elsa")
"""Names that stand around the optimizer; the others go last."""
STATIC = {
    "rigl": ("sparsity", "steps", "distribution"),
    "sparse evolution": ("sparsity", "steps", "distribution"),
    "ac dc": ("steps", "period"),
    "sr ste": ("n", "m", "axis"),
    "proximal": ("metric", "sparsity"),
    "safe": ("metric",),
    "elsa": ("sparsity", "every"),
}
"""Arguments that ``optax.inject_hyperparams`` must leave alone, by the start of the name."""
FORMS = ("ac dc", "proximal metric", "elsa schedule")
EXPLICIT = ("rigl of slices", "proximal metric")
BY_ORBAX = ("rigl of slices", "soft threshold of slices", *FORMS)
