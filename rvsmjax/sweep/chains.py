"""Sweeps of any optax chain: the lanes of a grid through ``run_lanes``."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rvsmjax import _checks
from rvsmjax.adjoint import pull, splittings
from rvsmjax.certificate import Certificate, certificate_at
from rvsmjax.geometry import norm, tangent, unit
from rvsmjax.lanes import all_combinations, run_lanes
from rvsmjax.penalties import Penalty, moreau_envelope
from rvsmjax.problems import OneLayerProblem, splitting_residual
from rvsmjax.solve import Status
from rvsmjax.sweep._program.plan import ROWS
from rvsmjax.sweep._tiles.loop import CHECK_EVERY
from rvsmjax.sweep.grid import Grid
from rvsmjax.transforms import ADMMState, sparse_params, splitting_states


class Lane(NamedTuple):
    """What an algorithm knows of a lane.

    Attributes:
      penalty: the penalty, its numbers traced.
      lam: λ.
      beta: β.
      learning_rate: η.
      normalize: whether w stays on the sphere: the chain must end in ``unit_sphere`` if so.
      problem: the problem.
      d: dimension of w.
    """

    penalty: Penalty
    lam: Array
    beta: Array
    learning_rate: Array
    normalize: bool
    problem: OneLayerProblem
    d: int


class Run(NamedTuple):
    """State of a lane: the iterate, the chain's state, w*, the last residual and a ``Status``."""

    w: Array
    opt_state: optax.OptState
    w_star: Array
    residual: Array
    status: Array


Algorithm = Callable[[Lane], optax.GradientTransformation]
Done = Callable[[Array, optax.OptState], Array]


def residual(lane: Lane, w: Array, opt_state: optax.OptState, w_star: Array) -> Array:
    """Returns how far (w, u) is from a limit of the chain.

    With ``admm``: max{‖w − u‖, ‖∇f(w) + ρz‖}. Else ‖∇f(w) + β(w − u)‖, without the second term where there is no
    ``rvsm``. On the sphere the tangential part.
    """
    for state in splitting_states(opt_state):
        if isinstance(state, ADMMState):
            force = lane.problem.grad(w, w_star) + state.rho * state.z
            gap = norm(w - sparse_params(opt_state, w))
            return jnp.maximum(gap, norm(tangent(w, force) if lane.normalize else force))
    return splitting_residual(lane.problem, w, w_star, pull(w, splittings(opt_state)), lane.normalize)


def run_chains(
    grid: Grid,
    algorithm: Algorithm,
    done: Done | None,
    key: Array,
    tol: float,
    max_steps: int,
    dtype: np.dtype,
    devices: Sequence[jax.Device],
) -> tuple[dict[str, np.ndarray], float]:
    """Returns the fields of ``Certificate``, steps and status in the grid's shape, and the steps executed."""
    axes = grid.axes
    shape = tuple(grid.shape.values())
    kinds: dict[Any, list[int]] = {}
    for i, penalty in enumerate(axes.penalty):
        kinds.setdefault(jax.tree.structure(penalty), []).append(i)
    data: dict[str, np.ndarray] = {}
    executed = 0.0
    rates = np.asarray([np.nan] if axes.learning_rate is None else axes.learning_rate, dtype)
    for structure, entries in kinds.items():
        numbers: dict[str, Any] = all_combinations(
            entry=np.arange(len(entries)),
            k=np.asarray(axes.k, dtype),
            lam=np.asarray(axes.lam, dtype),
            beta=np.asarray(axes.beta, dtype),
            learning_rate=rates,
            seed=np.asarray(axes.seeds, np.uint32),
        )
        entry = numbers.pop("entry")
        lengths = (len(entries), *(len(x) for x in (axes.k, axes.lam, axes.beta, rates, axes.seeds)))
        columns = zip(*(jax.tree.leaves(axes.penalty[i]) for i in entries), strict=True)
        numbers["leaves"] = [jnp.asarray(column, dtype)[entry] for column in columns]
        numbers["key"] = jnp.broadcast_to(key, entry.shape)
        numbers["tol"] = jnp.full(entry.shape, tol, dtype)
        for (i, d), (j, normalize) in itertools.product(enumerate(axes.d), enumerate(axes.normalize)):
            init, step, ends, measure = _functions(structure, d, normalize, grid.problem, algorithm, done, dtype.name)
            rounds = -(-max_steps // CHECK_EVERY)
            result = run_lanes(init, step, ends, numbers, max_steps=rounds, measure=measure, devices=devices)
            executed += CHECK_EVERY * float(result.executed)
            certificate, status = result.values
            fields = certificate._asdict() | {"steps": CHECK_EVERY * result.steps, "status": status}
            for name, values in fields.items():
                array = np.asarray(values)
                full = data.setdefault(name, np.empty(shape, array.dtype))
                full[(entries, i, ..., j, slice(None))] = array.reshape(lengths)
    return data, executed


@functools.lru_cache(maxsize=256)
def _functions(
    structure: Any, d: int, normalize: bool, factory: Any, algorithm: Algorithm, done: Done | None, dtype: str
) -> tuple[Callable[..., Any], ...]:
    """Returns ``init``, ``step``, ``done`` and ``measure`` of a kind of lanes, the same objects for equal arguments."""

    def lane_of(numbers: Any) -> Lane:
        problem = factory(numbers["k"])
        largest = problem.largest_learning_rate(numbers["beta"])
        given = numbers["learning_rate"]
        rate = jnp.where(jnp.isnan(given), largest, given)
        penalty = jax.tree.unflatten(structure, numbers["leaves"])
        return Lane(penalty, numbers["lam"], numbers["beta"], rate, normalize, problem, d)

    def chain_of(lane: Lane) -> optax.GradientTransformationExtraArgs:
        chain = algorithm(lane)
        if not isinstance(chain, optax.GradientTransformation):
            raise TypeError(f"algorithm must return an optax.GradientTransformation, got {_checks.show(chain)}")
        return optax.with_extra_args_support(chain)

    def judged(lane: Lane, w: Array, opt_state: Any, w_star: Array, tol: Array) -> tuple[Array, Array]:
        size = residual(lane, w, opt_state, w_star).astype(dtype)
        met = size <= tol if done is None else done(w, opt_state)
        finite = jnp.isfinite(size) & jnp.all(jnp.isfinite(w))
        status = jnp.where(finite, jnp.where(met, Status.CONVERGED, Status.CAP), Status.DIVERGED)
        return size, status.astype(jnp.int8)

    def init(numbers: Any) -> Run:
        lane = lane_of(numbers)
        rows = -(-d // ROWS) * ROWS
        seed = jax.random.fold_in(numbers["key"], numbers["seed"])
        w_star, w = unit(jax.random.normal(seed, (2, rows), dtype)[:, :d])
        opt_state = jax.tree.map(jnp.asarray, chain_of(lane).init(w))
        return Run(w, opt_state, w_star, *judged(lane, w, opt_state, w_star, numbers["tol"]))

    def step(run: Run, numbers: Any) -> Run:
        lane = lane_of(numbers)
        chain = chain_of(lane)

        def one(carry: tuple[Array, Any], _: None) -> tuple[tuple[Array, Any], None]:
            w, opt_state = carry
            updates, opt_state = chain.update(lane.problem.grad(w, run.w_star).astype(dtype), opt_state, w)
            return (optax.apply_updates(w, updates), opt_state), None

        (w, opt_state), _ = jax.lax.scan(one, (run.w, run.opt_state), length=CHECK_EVERY)
        size, status = judged(lane, w, opt_state, run.w_star, numbers["tol"])
        new = Run(w, opt_state, run.w_star, size, status)
        # The last finite iterate is kept.
        kept = jax.tree.map(lambda a, b: jnp.where(status == Status.DIVERGED, b, a), new, run)
        return kept._replace(status=status)

    def ends(run: Run, numbers: Any) -> Array:
        return run.status != Status.CAP

    def measure(run: Run, numbers: Any) -> tuple[Certificate, Array]:
        lane, w = lane_of(numbers), run.w
        u = sparse_params(run.opt_state, w) if splitting_states(run.opt_state) else w
        envelope = moreau_envelope(lane.penalty, w, lane.lam / lane.beta)
        fields = certificate_at(lane.problem, lane.lam, lane.beta, d, w, run.w_star, u, envelope)
        return fields._replace(zeros=fields.zeros.astype(jnp.int32)), run.status

    return init, step, ends, measure
