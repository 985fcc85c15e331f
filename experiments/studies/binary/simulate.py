"""Runs of RVSCGD at the setting of Figure 4 of the Frontiers paper, recorded step by step in float64."""

from __future__ import annotations

import math

import jax
import numpy as np
import optax
import xarray as xr

import rvsmjax as rv

from ...papers.frontiers_2020 import LEARNING_RATE, SETTING

TOLERANCE = 1e-10
"""Residual at which a run has converged. The rounding error of one step divided by the paper's η is 1e-11."""

ROWS = 800
"""Number of recorded points of a run of the figure."""

RISE = 1e-9
"""Smallest increase that counts as a rise; rounding causes 1e-13."""


def descents(key: int, runs: int, steps: int) -> xr.Dataset:
    """Returns the runs of the figure: l0 and the paper's η, so a step moves a component by ηβ|w − u| < 4e-8."""
    return follow(key, runs, rv.L0(), LEARNING_RATE, steps, max(1, steps // ROWS))


def many(key: int, runs: int, penalty: rv.Penalty) -> xr.Dataset:
    """Returns runs recorded at every step, with an η that meets all conditions of Theorem 1 (iii)."""
    return follow(key, runs, penalty, safe_rate(), 300, 1)


def safe_rate() -> float:
    """Returns η = 1/(2(c + β)), for which η‖E[g] + β(w − u)‖ <= ½ at every w, since ‖E[g]‖ <= c."""
    return 1 / (2 * (SETTING["k"] / math.pi + SETTING["beta"]))


def follow(key: int, runs: int, penalty: rv.Penalty, rate: float, steps: int, stride: int) -> xr.Dataset:
    """Returns the trace of each run at every ``stride``-th step; a converged run keeps its last values.

    Args:
      key: seed of the random starts and w*, both uniform on the sphere.
      runs: number of runs.
      penalty: P.
      rate: η.
      steps: step cap of a run.
      stride: steps between recorded points.

    Returns:
      ``theta`` (between w and w*), ``lagrangian``, ``gamma`` (between w and u) and ``residual`` over run and step;
      ``steps`` and ``converged`` over run.
    """
    k, d, lam, beta = SETTING["k"], int(SETTING["d"]), SETTING["lam"], SETTING["beta"]

    def one(key: jax.Array) -> rv.Solution:
        w, w_star = rv.geometry.unit(jax.random.normal(key, (2, d)))
        chain = optax.chain(rv.rvsm(penalty, lam, beta), optax.sgd(rate), rv.unit_sphere())
        end = rv.solve(
            rv.NoOverlapBinary(k),
            chain,
            w,
            w_star,
            tol=TOLERANCE,
            max_steps=steps,
            check_every=stride,
            trace_every=stride,
        )
        return end._replace(opt_state=None)

    with jax.enable_x64(True):
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(key), i))(np.arange(runs, dtype=np.uint32))
        solution = jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))
    trace = solution.trace
    last = np.sum(np.isfinite(trace.residual), 1) - 1
    held = np.minimum(np.arange(trace.residual.shape[1]), last[:, None])
    data = {name: (["run", "step"], np.take_along_axis(values, held, 1)) for name, values in trace._asdict().items()}
    ends = {"steps": ("run", solution.steps), "converged": ("run", solution.converged)}
    return xr.Dataset(data | ends, {"step": stride * np.arange(held.shape[1]), "run": np.arange(runs)})


def rises(values: xr.DataArray) -> np.ndarray:
    """Returns the increase of each run from its minimum to its last value."""
    return (values.isel(step=-1) - values.min("step")).values
