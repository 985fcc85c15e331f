"""The table of all transformations, with what the contract tests must know of each. A row begins with its name."""

from functools import partial

import jax
import optax

import rvsmjax as rv
from tests.methods import table

RISING = rv.cubic_sparsity(0.75, begin=0, end=3)
LINEAR = optax.linear_schedule(0.02, 0.1, 3)

OPTIMIZER = optax.sgd(0.1, momentum=0.9)

STACKS = {"conv": "stack ... in out"}
HEADS = {"conv": "stack in head out", "head": "in head"}


def squares(params):
    """A metric that depends on the parameters, and so has their sharding."""
    return jax.tree.map(lambda w: w**2 + 0.1, params)


rvsm, admm = partial(rv.rvsm, lam=0.05, beta=0.5), partial(rv.admm, rho=0.5)
held, sparsify = partial(rv.rvsm, beta=0.5), partial(rv.sparsify, OPTIMIZER)

TABLE = {
    "rvsm l1": partial(rvsm, rv.L1()),
    "rvsm l0": partial(rvsm, rv.L0()),
    "rvsm tl1": partial(rvsm, rv.TransformedL1(0.7)),
    "rvsm top k": partial(rvsm, rv.TopK(k=9)),
    "rvsm top of all": partial(rvsm, rv.TopK(sparsity=0.75, scope="global")),
    "rvsm n of m": partial(rvsm, rv.NM(2, 4)),
    "rvsm filters": partial(rvsm, rv.Grouped(rv.L1(), "filters")),
    "rvsm channels": partial(rvsm, rv.Grouped(rv.TransformedL1(), "channels")),
    "rvsm rows": partial(rvsm, rv.Grouped(rv.L0(), "rows")),
    "rvsm delayed": partial(rvsm, rv.L0(), update_every=3),
    "rvsm certified": partial(rvsm, rv.TransformedL1(), certificate=True, overrides={"head": {"penalty": rv.NM()}}),
    "rvsm overrides": partial(rvsm, rv.L1(), overrides={"conv": {"lam": 0.2}, "head": {"penalty": rv.L0()}}),
    "rvsm schedules": partial(rv.rvsm, rv.TransformedL1(LINEAR), lam=LINEAR, beta=lambda count: 0.5 + 0.1 * count),
    "rvsm rising share": partial(rvsm, rv.TopK(sparsity=RISING, scope="global"), update_every=2),
    "rvsm l1 share": partial(held, rv.L1(), sparsity=0.6),
    "rvsm filters share": partial(held, rv.Grouped(rv.L0(), "filters"), sparsity=0.6, scope="leaf"),
    "rvsm shares": partial(held, rv.L0(), sparsity=RISING, overrides={"head": {"sparsity": 0.5}}, certificate=True),
    "rvsm slices": partial(
        rvsm,
        rv.NM(2, 4),
        layout=STACKS | {"head": "out in"},
        certificate=True,
        overrides={"head": {"penalty": rv.L0()}},
    ),
    "rvsm groups of slices": partial(held, rv.Grouped(rv.TopK(k=2), "rows"), layout=STACKS),
    "rvsm share of slices": partial(
        held, rv.Grouped(rv.L0(), "filters"), sparsity=0.6, scope="leaf", layout=STACKS, certificate=True
    ),
    "rvsm metric": partial(
        held, rv.TransformedL1(), sparsity=0.6, metric=squares, overrides={"conv": {"penalty": rv.L0()}}
    ),
    "rvsm metric of slices": partial(
        held, rv.L1(), sparsity=0.6, scope="leaf", layout=STACKS, metric=squares, certificate=True
    ),
    "sparsify metric": partial(sparsify, penalty=rv.NM(2, 4), steps=8, metric=squares, layout=STACKS),
    "admm metric": partial(
        admm, rv.TopK(sparsity=0.75), metric=squares, overrides={"conv": {"penalty": rv.Grouped(rv.L0(), "filters")}}
    ),
    "sparsify": partial(sparsify, 0.6, steps=8),
    "sparsify by leaf": partial(sparsify, RISING, penalty=rv.TransformedL1(), scope="leaf", steps=3),
    "sparsify n of m": partial(
        sparsify, penalty=rv.NM(2, 4), overrides={"head": {"penalty": rv.L0(), "sparsity": 0.5}}, steps=8
    ),
    "sparsify slices": partial(sparsify, 0.6, penalty=rv.Grouped(rv.L0(), "heads"), steps=8, layout=HEADS),
    "admm l1": partial(admm, rv.L1(), lam=0.05),
    "admm top share": partial(admm, rv.TopK(sparsity=0.75), dual_every=2),
    "admm schedules": partial(rv.admm, rv.TransformedL1(LINEAR), rho=LINEAR, lam=LINEAR),
    "admm overrides": partial(admm, rv.NM(1, 4), overrides={"conv": {"penalty": rv.L0(), "lam": 0.1}}),
    "admm in bfloat16": partial(admm, rv.TopK(sparsity=0.75), state_dtype="bfloat16"),
    "sparsify in bfloat16": partial(sparsify, 0.6, steps=8, state_dtype="bfloat16"),
    "admm slices": partial(admm, rv.TopK(sparsity=0.75), dual_every=2, layout=STACKS),
    "adaptive hard threshold": partial(rv.adaptive_hard_threshold, 6),
    "adaptive hard threshold of slices": partial(rv.adaptive_hard_threshold, 6, layout=STACKS),
    "unit sphere": rv.unit_sphere,
    "unit sphere of slices": partial(rv.unit_sphere, layout=STACKS),
    "keep zeros": rv.keep_zeros,
} | table.TABLE

FIRST = ("rvsm", "admm")
"""Names that stand before the optimizer in a chain."""
AROUND = ("sparsify", *table.AROUND)
"""Names that stand around it; all others go last."""
SPARSE = (*FIRST, *AROUND, "gradual pruning")
"""Names whose state has the sparse parameters, for ``sparse_params``."""
STATIC = {
    "rvsm": ("update_every", "certificate", "scope", "metric"),
    "sparsify": ("sparsity", "steps", "freeze", "scope", "metric"),
    "admm": ("metric",),
} | table.STATIC
"""Arguments that ``optax.inject_hyperparams`` must leave alone, by the start of the name."""
FORMS = (
    "rvsm certified",
    "rvsm rising share",
    "rvsm shares",
    "rvsm metric",
    "sparsify slices",
    "admm overrides",
    *table.FORMS,
)
"""Whether a state survives vmap, sharding and wrappers depends on its form, which these rows have between them."""
EXPLICIT = (
    "rvsm certified",
    "rvsm rising share",
    "sparsify slices",
    "rvsm metric",
    "admm top share",
    "adaptive hard threshold",
    "unit sphere",
    *table.EXPLICIT,
)
"""On explicit axes, the default of ``jax.make_mesh``: sorts, scans and reshapes have no sharding rule.
The slow tests have all rows."""
BY_ORBAX = (
    "rvsm certified",
    "rvsm metric",
    "rvsm delayed",
    "admm overrides",
    "admm in bfloat16",
    "adaptive hard threshold",
    "unit sphere",
    "keep zeros",
    *table.BY_ORBAX,
)
"""One of each state type: Orbax is slow per leaf."""
