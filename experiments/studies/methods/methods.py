"""The methods of the comparison, each a transformation around an optimizer, and the optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import optax

import rvsmjax as rv

from .config import BY_HAND, METRIC, TUNED, Setting

WARM_UP = 0.05
"""Share of the steps over which the learning rate rises, before it falls along a cosine to 0."""
BETA, RAMP = 0.1, 2 / 3
"""β of rvsm, before the optimizer, and the share of the steps over which its sparsity rises."""
PENALTIES: Mapping[str, rv.Penalty] = {
    "rvsm-l1": rv.L1(),
    "rvsm-l0": rv.L0(),
    "rvsm-tl1": rv.TransformedL1(),
    "rvsm-group-l1": rv.Grouped(rv.L1(), "filters"),
    "rvsm-group-l0": rv.Grouped(rv.L0(), "filters"),
}
OPTIMIZERS: Mapping[str, Callable[[optax.Schedule], optax.GradientTransformation]] = {
    "sgd": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "adamw": lambda rate: optax.adamw(rate),
    "lion": lambda rate: optax.lion(rate),
    "adafactor": lambda rate: optax.adafactor(rate),
    "muon": lambda rate: optax.contrib.muon(rate),
}


def make(setting: Setting, rate: float, lam: float | None = None) -> optax.GradientTransformation:
    """Returns the transformation of a training with a maximum learning rate, and λ where it is fixed."""
    steps = setting.steps
    rates = optax.warmup_cosine_decay_schedule(0.0, rate, max(1, round(WARM_UP * steps)), steps)
    optimizer = OPTIMIZERS[setting.optimizer](rates)
    if setting.method in ("sparsify", METRIC):
        metric = "second_moment" if setting.method == METRIC else None
        return rv.sparsify(optimizer, setting.sparsity, steps=steps, metric=metric)
    if setting.method == "magnitude":
        rising = rv.cubic_sparsity(setting.sparsity, 0, max(1, round(setting.ramp * steps)))
        return optax.chain(optimizer, rv.methods.gradual_pruning(rv.TopK(sparsity=rising, scope="global")))
    if setting.method == TUNED:
        rising = rv.cubic_sparsity(setting.sparsity, 0, max(1, round(RAMP * steps)))
        return optax.chain(rv.rvsm(rv.L0(), sparsity=rising, beta=setting.beta), optimizer)
    if setting.method in PENALTIES:
        rising = rv.cubic_sparsity(setting.sparsity, 0, max(1, round(RAMP * steps)))
        return optax.chain(rv.rvsm(PENALTIES[setting.method], sparsity=rising, beta=BETA), optimizer)
    if setting.method in BY_HAND:
        return optax.chain(rv.rvsm(PENALTIES[setting.method.replace("fixed", "rvsm")], lam, BETA), optimizer)
    return optimizer
