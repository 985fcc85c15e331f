"""Data of the paper's Figures 2, 4, 5, 6 and 7, from the library's functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
import pandas as pd
from jax import Array
from jax.typing import ArrayLike

import rvsmjax as rv
from rvsmjax.certificate import largest_learning_rate

from ...papers import arxiv_1812_05719 as paper
from ...penalties.registry import find

CHOICES: dict[str, dict[str, Any]] = {
    "figure_4": {"lam": 0.5, "a": {"sub": 2.0, "super": 0.5}},
    "figure_5": {"lam": 0.05, "a": 1.0},
    "figure_6": {"step": 0.05, "a": 1.0, "d": 10, "draws": 100},
    "figure_7": {"d": 30, "steps": 150},
}
"""λ, λ/β and the d of Figure 7 are the paper's; a, the d of Figure 6, draws and steps are chosen here."""


def level_values() -> dict[str, np.ndarray]:
    """Returns P on a square grid over [-1, 1]², for l1 and for tl1 at a = 100, 1, 0.01 (Figure 2)."""
    axis = np.linspace(-1, 1, 301, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis), -1)
    shown = {"ℓ1": rv.L1(), **{f"Tℓ1, a = {a:g}": rv.TransformedL1(a) for a in (100.0, 1.0, 0.01)}}
    return {name: np.asarray(jax.vmap(jax.vmap(p.value))(points)) for name, p in shown.items()}


def thresholded() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns v and prox(v) for soft, hard, sub- and supercritical tl1 thresholding (Figure 4)."""
    lam, a = CHOICES["figure_4"]["lam"], CHOICES["figure_4"]["a"]
    shown = {
        "soft (ℓ1)": rv.L1(),
        "hard (ℓ0)": rv.L0(),
        f"Tℓ1, a = {a['sub']:g} (subcritical)": rv.TransformedL1(a["sub"]),
        f"Tℓ1, a = {a['super']:g} (supercritical)": rv.TransformedL1(a["super"]),
    }
    v = np.linspace(-2.5, 2.5, 2001, dtype=np.float32)
    x = jax.jit(lambda v: {name: penalty.prox(v, lam) for name, penalty in shown.items()})(v)
    return {name: (v, np.asarray(x[name])) for name in shown}


def huber() -> pd.DataFrame:
    """Returns the Moreau envelope of each penalty in one dimension, indexed by x (Figure 5)."""
    choice = CHOICES["figure_5"]
    x = np.linspace(-1, 1, 801, dtype=np.float32)
    return pd.DataFrame(_of_penalties(choice["a"], lambda p, v: rv.moreau_envelope(p, v, choice["lam"]), x), x)


def random_angles(key: int) -> pd.DataFrame:
    """Returns γ = ∠(X, prox(X)) of random unit vectors X, one row per draw (Figure 6)."""
    choice = CHOICES["figure_6"]
    x = _directions(key, 6, choice["draws"], choice["d"])
    return pd.DataFrame(_of_penalties(choice["a"], lambda p, v: rv.angle(v, p.prox(v, choice["step"])), x))


def descent(key: int) -> pd.DataFrame:
    """Returns the Lagrangian L_β(u, w) along a run from one start, one column per penalty (Figure 7)."""
    choice, setting = CHOICES["figure_7"], paper.SETTING
    problem, rate = rv.NoOverlapReLU(setting["k"]), largest_learning_rate(setting["beta"])

    def run(penalty: rv.Penalty, pair: Array) -> Array:
        split = rv.rvsm(penalty, lam=setting["lam"], beta=setting["beta"])
        chain = optax.chain(split, optax.sgd(rate), rv.unit_sphere())
        # The tolerance is out of reach, so all runs have the same length.
        end = rv.solve(problem, chain, *pair, tol=1e-30, max_steps=choice["steps"], trace_every=1)
        assert end.trace is not None  # with ``trace_every``
        return end.trace.lagrangian

    runs = _of_penalties(setting["a"], run, _directions(key, 7, 2, choice["d"])[None])
    return pd.DataFrame({name: trace[0] for name, trace in runs.items()})


def _of_penalties(a: float, function: Callable[[rv.Penalty, Array], Array], x: ArrayLike) -> dict[str, np.ndarray]:
    """Returns function(penalty, x[i]) for all i, for each penalty, in one compiled call."""
    shown = {name: find(name)(a) for name in ("l1", "l0", "tl1")}
    run = jax.jit(lambda x: {name: jax.vmap(partial(function, p))(x) for name, p in shown.items()})
    values = run(x)
    return {name: np.asarray(values[name]) for name in shown}


def _directions(key: int, figure: int, count: int, d: int) -> Array:
    """Returns unit vectors, uniform on the sphere, drawn from the root key and the figure's number."""
    folded = jax.random.fold_in(jax.random.key(key), figure)
    return jax.jit(lambda: rv.geometry.unit(jax.random.normal(folded, (count, d))))()
