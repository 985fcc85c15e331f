"""Derivatives of the limits of ``run_lanes`` in the lanes' numbers: the implicit function theorem, in reverse mode.

At a limit s = step(s, n), so a cotangent s̄ of s becomes λ = s̄ + (∂step/∂s)ᵀλ and then n̄ = (∂step/∂n)ᵀλ. λ is found by
iteration, lane by lane through ``run_lanes``'s queue: it contracts as the step does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rvsmjax.lanes.queue import Loop

ROUNDINGS, STALLED = 4, 50
"""Change of λ in a step, in units of its rounding error, below which it has converged; and the number of steps without
a smaller change after which it ends: rounding may keep the change from falling further."""
Floats = list[Array]
Run = Callable[[Loop, Any], Any]
"""Function of a loop and numbers that returns the ``Lanes``."""


class Point(NamedTuple):
    """A lane's limit and the cotangent of what is measured there, all floats apart from the other leaves.

    Attributes:
      state: the limit.
      numbers: the lane's numbers.
      values: cotangents of the floats of ``measure``.
    """

    state: Any
    numbers: Any
    values: Floats


class Iterate(NamedTuple):
    """λ, the cotangent s̄ of the limit, its last change, the least change so far, and the steps since then."""

    cotangent: Floats
    seed: Floats
    change: Array
    least: Array
    stalled: Array


def with_adjoint(run: Run, back: Run, loop: Loop, numbers: Any) -> Any:
    """Returns ``run(loop, numbers)`` with derivatives of its values in the floats of ``numbers``.

    Args:
      run: runs the lanes.
      back: runs the lanes of the reverse pass.
      loop: the lanes' functions.
      numbers: arrays with a leading axis of lanes.
    """

    @jax.custom_vjp
    def call(numbers: Floats, others: Sequence[Any]) -> Any:
        return run(loop, join(numbers, others))

    def forward(numbers: Floats, others: Sequence[Any]) -> tuple[Any, Any]:
        whole = join(numbers, others)
        lanes = run(_keeping_the_state(loop), whole)
        values, state = lanes.values
        return lanes._replace(values=values), (state, whole)

    def backward(residuals: Any, cotangent: Any) -> tuple[Floats, None]:
        state, whole = residuals
        values = [c for c in jax.tree.leaves(cotangent.values) if c.dtype != jax.dtypes.float0]
        return back(_reverse(loop), Point(state, whole, values)).values, None

    call.defvjp(forward, backward)
    leaves, structure = jax.tree.flatten(numbers)
    join = functools.partial(_join, structure, tuple(_is_float(x) for x in leaves))
    return call([x for x in leaves if _is_float(x)], [x for x in leaves if not _is_float(x)])


@functools.lru_cache(maxsize=256)
def _keeping_the_state(loop: Loop) -> Loop:
    return loop._replace(measure=lambda state, numbers: (loop.measure(state, numbers), state))


@functools.lru_cache(maxsize=256)
def _reverse(loop: Loop) -> Loop:
    """Returns the loop of λ; its lanes' numbers are a ``Point``, its values the cotangents of the floats of n."""

    def init(point: Point) -> Iterate:
        seed, _ = _pullback(loop.measure, point)(point.values)
        infinite = jnp.full((), jnp.inf, jnp.result_type(float, *seed))
        return Iterate(seed, seed, infinite, infinite, jnp.zeros((), jnp.int32))

    def step(iterate: Iterate, point: Point) -> Iterate:
        through, _ = _pullback(loop.step, point)(iterate.cotangent)
        new = [s + x for s, x in zip(iterate.seed, through, strict=True)]
        change = [jnp.max(jnp.abs(a - b), initial=0) for a, b in zip(new, iterate.cotangent, strict=True)]
        last = _largest(change).astype(iterate.change.dtype)
        stalled = jnp.where(last < iterate.least, 0, iterate.stalled + 1)
        return Iterate(new, iterate.seed, last, jnp.minimum(last, iterate.least), stalled)

    def size(iterate: Iterate, unit: float) -> Array:
        return _largest([jnp.finfo(x.dtype).eps ** unit * jnp.max(jnp.abs(x), initial=0) for x in iterate.cotangent])

    def done(iterate: Iterate, point: Point) -> Array:
        return (iterate.change <= ROUNDINGS * size(iterate, 1)) | (iterate.stalled >= STALLED)

    def measure(iterate: Iterate, point: Point) -> Floats:
        _, direct = _pullback(loop.measure, point)(point.values)
        _, through = _pullback(loop.step, point)(iterate.cotangent)
        known = jnp.isfinite(iterate.change) & (iterate.change <= size(iterate, 0.5))
        # NaN of the caller's own stays; that of a lane without a limit is none of it.
        finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in point.values]))
        otherwise = jnp.where(finite, 0.0, jnp.nan)
        return [jnp.where(known, a + b, otherwise.astype(a.dtype)) for a, b in zip(direct, through, strict=True)]

    return Loop(init, step, done, measure)


def _pullback(function: Callable[[Any, Any], Any], point: Point) -> Callable[[Floats], tuple[Floats, Floats]]:
    """Returns the map of a cotangent of the floats of ``function(s, n)`` to those of the floats of s and of n."""
    parts = [jax.tree.flatten(tree) for tree in (point.state, point.numbers)]
    floats = [[x for x in leaves if _is_float(x)] for leaves, _ in parts]

    def of_floats(*floats: Floats) -> Floats:
        trees = [
            _join(structure, tuple(map(_is_float, leaves)), some, [x for x in leaves if not _is_float(x)])
            for some, (leaves, structure) in zip(floats, parts, strict=True)
        ]
        return [x for x in map(jnp.asarray, jax.tree.leaves(function(*trees))) if _is_float(x)]

    return jax.vjp(of_floats, *floats)[1]


def _join(structure: Any, is_float: tuple[bool, ...], floats: Sequence[Any], others: Sequence[Any]) -> Any:
    sources = {True: iter(floats), False: iter(others)}
    return jax.tree.unflatten(structure, [next(sources[which]) for which in is_float])


def _is_float(x: Any) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating))


def _largest(sizes: Sequence[Array]) -> Array:
    return functools.reduce(jnp.maximum, sizes, jnp.zeros(()))
