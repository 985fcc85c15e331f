"""The methods of the comparison, each a transformation around an optimizer, and the optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import optax

import rvsmjax as rv
from rvsmjax import methods as others
from rvsmjax.transforms import select

from .config import BY_HAND, DECOUPLED, FROZEN, METRIC, PUBLISHED, TUNED, Setting

Optimizer: TypeAlias = optax.GradientTransformation
WARM_UP = 0.05
"""Share of the steps over which the learning rate rises, before it falls along a cosine to 0."""
BETA, RAMP, FREEZE = 0.1, 2 / 3, 0.8
"""β of rvsm, before the optimizer, the share of the steps over which its sparsity rises, and that after which u is
fine-tuned."""
DUAL_EVERY, PATTERNS, RADIUS = 10, 30, 0.1
"""Steps between updates of a dual variable; updates of the pattern of rigl and sparse-evolution; radius of safe."""
PENALTIES: Mapping[str, rv.Penalty] = {
    "rvsm-l1": rv.L1(),
    "rvsm-l0": rv.L0(),
    "rvsm-tl1": rv.TransformedL1(),
    "rvsm-group-l1": rv.Grouped(rv.L1(), "filters"),
    "rvsm-group-l0": rv.Grouped(rv.L0(), "filters"),
}
OPTIMIZERS: Mapping[str, Callable[[optax.Schedule], Optimizer]] = {
    "sgd": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "adamw": lambda rate: optax.adamw(rate),
    "lion": lambda rate: optax.lion(rate),
    "adafactor": lambda rate: optax.adafactor(rate),
    "muon": lambda rate: optax.contrib.muon(rate),
}


class Phase(NamedTuple):
    """A part of a training: its transformation and the number of its steps."""

    tx: Optimizer
    steps: int


def phases(setting: Setting, rate: float, lam: float | None = None) -> list[Phase]:
    """Returns the phases of a training with a maximum learning rate, and λ where it is fixed.

    The second phase, if there is one, starts at u and keeps its zeros.
    """
    steps = setting.steps
    if setting.method in PUBLISHED:
        return [Phase(_rigl_on_mnist(setting, rate), steps)]
    rates = optax.warmup_cosine_decay_schedule(0.0, rate, max(1, round(WARM_UP * steps)), steps)
    optimizer = OPTIMIZERS[setting.optimizer]
    if setting.method not in FROZEN:
        return [Phase(_around(setting, optimizer(rates), lam), steps)]
    start = round(FREEZE * steps)
    rest = optimizer(lambda count: rates(count + start))
    first = Phase(_around(setting, optimizer(rates), lam), start)
    return [first, Phase(optax.chain(rest, rv.keep_zeros()), steps - start)]


def _around(setting: Setting, optimizer: Optimizer, lam: float | None) -> Optimizer:
    """Returns the method around an optimizer."""
    if setting.method in BY_HAND:
        return optax.chain(rv.rvsm(PENALTIES[setting.method.replace("fixed", "rvsm")], lam, BETA), optimizer)
    if setting.method in PENALTIES:
        return optax.chain(rv.rvsm(PENALTIES[setting.method], sparsity=_rising(setting), beta=BETA), optimizer)
    return AROUND[setting.method](setting, optimizer)


def _sparsify(setting: Setting, optimizer: Optimizer, metric: str | None = None) -> Optimizer:
    return rv.sparsify(optimizer, setting.sparsity, steps=setting.steps, metric=metric)


def _magnitude(setting: Setting, optimizer: Optimizer) -> Optimizer:
    return optax.chain(optimizer, others.gradual_pruning(_top(_rising(setting, setting.ramp))))


def _rvsm(setting: Setting, optimizer: Optimizer) -> Optimizer:
    return optax.chain(rv.rvsm(rv.L0(), sparsity=_rising(setting), beta=setting.beta or setting.value), optimizer)


def _decoupled(setting: Setting, optimizer: Optimizer) -> Optimizer:
    # rvsm adds α(w − u) to gradients, which point uphill.
    split = rv.rvsm(rv.L0(), sparsity=_rising(setting), beta=setting.value)
    return optax.chain(optimizer, optax.scale(-1.0), split, optax.scale(-1.0))


def _top_k(setting: Setting, optimizer: Optimizer) -> Optimizer:
    return optax.chain(rv.rvsm(_top(_rising(setting)), beta=setting.value), optimizer)


def _admm(setting: Setting, optimizer: Optimizer) -> Optimizer:
    return optax.chain(rv.admm(_top(_rising(setting)), rho=setting.value, dual_every=DUAL_EVERY), optimizer)


def _safe(setting: Setting, optimizer: Optimizer) -> Optimizer:
    steps = round(FREEZE * setting.steps)
    top = _top(setting.sparsity)
    return others.safe(optimizer, top, setting.value, radius=RADIUS, dual_every=DUAL_EVERY, steps=steps)


def _elsa(setting: Setting, optimizer: Optimizer) -> Optimizer:
    return others.elsa(optimizer, setting.sparsity, setting.value, every=DUAL_EVERY, scope="global")


def _moving(setting: Setting, optimizer: Optimizer) -> Optimizer:
    make = others.rigl if setting.method == "rigl" else others.sparse_evolution
    every = max(1, setting.steps // PATTERNS)
    return make(
        optimizer, setting.sparsity, steps=setting.steps, every=every, fraction=setting.value, seed=setting.seed
    )


def _ac_dc(setting: Setting, optimizer: Optimizer) -> Optimizer:
    period = max(1, round(setting.value * setting.steps))
    return others.ac_dc(optimizer, _top(setting.sparsity), steps=setting.steps, period=period)


def _proximal(setting: Setting, optimizer: Optimizer) -> Optimizer:
    return others.proximal(optimizer, rv.L0(), sparsity=_rising(setting, setting.value), rate=1.0)


def _rigl_on_mnist(setting: Setting, rate: float) -> Optimizer:
    """Returns the training of arXiv 1911.11134, appendix B; what it leaves out is from the code released with it."""
    steps = setting.steps
    rates = optax.piecewise_constant_schedule(rate, {round(epoch / 200 * steps): 1 / 3 for epoch in (75, 95)})
    decay = optax.add_decayed_weights(1e-4, lambda params: select(params, lambda path: path.endswith("kernel")))
    tx: Optimizer = optax.chain(decay, optax.sgd(rates, momentum=0.9, nesterov=True))
    moves = round(5 / 9 * steps)  # three quarters of it are steps 1 to 50,000 of 120,000
    for layer, zeros in (("dense1", 0.99), ("dense2", 0.891)):
        tx = others.rigl(tx, zeros, steps=moves, every=100, fraction=0.3, seed=setting.seed, mask=layer)
    return tx


AROUND: Mapping[str, Callable[[Setting, Optimizer], Optimizer]] = {
    "dense": lambda setting, optimizer: optimizer,
    "magnitude": _magnitude,
    "sparsify": _sparsify,
    METRIC: lambda setting, optimizer: _sparsify(setting, optimizer, "second_moment"),
    TUNED: _rvsm,
    DECOUPLED: _decoupled,
    "rvsm-frozen": _rvsm,
    "top-k": _top_k,
    "admm": _admm,
    "safe": _safe,
    "elsa": _elsa,
    "rigl": _moving,
    "sparse-evolution": _moving,
    "ac-dc": _ac_dc,
    "proximal": _proximal,
}


def _rising(setting: Setting, end: float = RAMP) -> optax.Schedule:
    """Returns the sparsity along a cubic up to a share of the steps."""
    return rv.cubic_sparsity(setting.sparsity, 0, max(1, round(end * setting.steps)))


def _top(sparsity: optax.ScalarOrSchedule) -> rv.TopK:
    return rv.TopK(sparsity=sparsity, scope="global")
