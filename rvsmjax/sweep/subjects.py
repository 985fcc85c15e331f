"""What the lanes of a sweep are: one-layer problems, or custom problems."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rvsmjax._pytree import PyTree
from rvsmjax.adjoint import pull, splittings
from rvsmjax.certificate import certificate_at
from rvsmjax.geometry import norm, tangent, unit
from rvsmjax.penalties import moreau_envelope
from rvsmjax.problems import Problem, splitting_residual
from rvsmjax.sweep._program.plan import ROWS
from rvsmjax.sweep.grid import Factory
from rvsmjax.transforms import ADMMState, RVSMState, UnitSphereState, sparse_params, splitting_states
from rvsmjax.transforms.leaves.marks import map_leaf_slices, map_marked


class Lane:
    """What an algorithm knows of a lane: its problem, and its value on each axis of the grid, as attributes.

    Numbers are traced, with their dtype; the values of static axes, ``d`` and ``normalize`` are Python values. A lane
    of a one-layer problem has ``penalty``, ``d``, ``k``, ``lam``, ``beta``, ``learning_rate`` (the largest that the
    theorem allows if the grid names none) and ``normalize``: the chain must end in ``unit_sphere`` if so.

    Attributes:
      problem: a ``OneLayerProblem`` or a ``Problem``.
    """

    problem: Any

    def __init__(self, problem: Any, **values: Any) -> None:
        self.__dict__["problem"] = problem
        self.__dict__["_values"] = values
        self.__dict__["_read"] = set()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._values:
            names = ", ".join(self._values) or "none"
            raise AttributeError(f"lane has the axes of the grid as attributes ({names}), got {name!r}")
        self._read.add(name)
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"lane must not be changed, got an assignment of {name}")


class Run(NamedTuple):
    """State of a lane: the iterate, the chain's state, the data, the last residual, a ``Status``, the steps so far."""

    w: PyTree
    opt_state: optax.OptState
    data: PyTree
    residual: Array
    status: Array
    step: Array


class OneLayer(NamedTuple):
    """Lanes of one-layer problems; their data is w*."""

    factory: Factory

    def lane(self, values: dict[str, Any]) -> Lane:
        """Returns the lane with these values."""
        problem = self.factory(values["k"])
        given = values["learning_rate"]
        rate = jnp.where(jnp.isnan(given), problem.largest_learning_rate(values["beta"]), given)
        return Lane(problem, **(values | {"learning_rate": rate}))

    def draw(self, key: Array, lane: Lane, dtype: np.dtype) -> tuple[Array, Array]:
        """Returns w⁰ and w*."""
        rows = -(-lane.d // ROWS) * ROWS
        w_star, w = unit(jax.random.normal(key, (2, rows), dtype)[:, : lane.d])
        return w, w_star

    def grad(self, lane: Lane, w: Array, w_star: Array, key: Array, step: Array) -> Array:
        """Returns the population gradient."""
        return lane.problem.grad(w, w_star)

    def residual(self, lane: Lane, w: Array, opt_state: optax.OptState, w_star: Array, gradient: Array) -> Array:
        """Returns how far (w, u) is from a limit of the chain.

        With ``admm``: max{‖w − u‖, ‖∇f(w) + ρz‖}. Else ‖∇f(w) + β(w − u)‖, without the second term where there is no
        ``rvsm``. On the sphere the tangential part.
        """
        for state in splitting_states(opt_state):
            if isinstance(state, ADMMState):
                force = gradient + state.rho * state.z
                gap = norm(w - sparse_params(opt_state, w))
                return jnp.maximum(gap, norm(tangent(w, force) if lane.normalize else force))
        return splitting_residual(lane.problem, w, w_star, pull(w, splittings(opt_state)), lane.normalize)

    def measure(self, lane: Lane, w: Array, u: Array, w_star: Array) -> dict[str, Array]:
        """Returns the certificate."""
        envelope = moreau_envelope(lane.penalty, w, lane.lam / lane.beta)
        fields = certificate_at(lane.problem, lane.lam, lane.beta, lane.d, w, w_star, u, envelope)._asdict()
        return fields | {"zeros": fields["zeros"].astype(jnp.int32)}


class Custom:
    """Lanes of a ``Problem``, which counts as equal only to itself."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def __hash__(self) -> int:
        return id(self.problem)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Custom) and other.problem is self.problem

    def lane(self, values: dict[str, Any]) -> Lane:
        """Returns the lane with these values."""
        return Lane(self.problem, **values)

    def draw(self, key: Array, lane: Lane, dtype: np.dtype) -> tuple[PyTree, PyTree]:
        """Returns w⁰ and the data."""
        drawn = self.problem.draw(jax.random.split(key)[0], lane)
        if not isinstance(drawn, tuple) or len(drawn) != 2:
            raise TypeError(f"problem must return a pair (w, data) from draw, got {type(drawn).__name__}")
        w, data = jax.tree.map(jnp.asarray, drawn)
        if not jax.tree.leaves(w) or not all(jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(w)):
            raise TypeError(f"problem must draw a w of floating-point arrays, got {jax.tree.map(jnp.shape, w)}")
        return w, data

    def grad(self, lane: Lane, w: PyTree, data: PyTree, key: Array, step: Array) -> PyTree:
        """Returns the gradient of a step."""
        return self.problem.grad(w, data, jax.random.fold_in(jax.random.split(key)[1], step))

    def residual(self, lane: Lane, w: PyTree, opt_state: optax.OptState, data: PyTree, gradient: PyTree) -> Array:
        """Returns how far (w, u) is from a limit of the chain, as for one-layer problems."""
        force, gap = gradient, jnp.zeros(())
        for state in splitting_states(opt_state):
            u = state.sparse(w)
            if isinstance(state, RVSMState):
                force = jax.tree.map(lambda f, a, b, s=state: f + s.beta * (a - b), force, w, u)
            elif isinstance(state, ADMMState):
                force = map_marked(lambda f, z, s=state: f + s.rho * z, state.marks, force, state.z)
                gap = jnp.maximum(gap, optax.tree.norm(jax.tree.map(jnp.subtract, w, u)))
        for state in jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, UnitSphereState)):
            if isinstance(state, UnitSphereState):
                on_sphere = lambda f, x: tangent(x.ravel(), f.ravel()).reshape(x.shape)  # noqa: E731
                force = map_leaf_slices(on_sphere, state.marks, force, w)
        return jnp.maximum(gap, optax.tree.norm(force))

    def measure(self, lane: Lane, w: PyTree, u: PyTree, data: PyTree) -> dict[str, Array]:
        """Returns what the problem measures."""
        fields = self.problem.measure(w, u, data)
        if not isinstance(fields, dict) or not all(isinstance(name, str) for name in fields):
            raise TypeError(
                f"problem must return a dictionary of arrays by name from measure, got {type(fields).__name__}"
            )
        if reserved := {"steps", "status"} & set(fields):
            raise ValueError(f"problem must measure under other names than steps and status, got {min(reserved)!r}")
        return fields


Subject = OneLayer | Custom
