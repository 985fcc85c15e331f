"""The default algorithm of a sweep, and chains that compute the same."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Hashable
from typing import Any

import jax
import numpy as np
import optax
from jax import Array

from rvsmjax.problems import OneLayerProblem
from rvsmjax.sweep.chains import Algorithm, functions_of, numbers_of, parts_of
from rvsmjax.sweep.grid import Grid
from rvsmjax.sweep.subjects import Lane, OneLayer
from rvsmjax.transforms import rvsm, unit_sphere


def rvsm_by_sgd(lane: Lane) -> optax.GradientTransformation:
    """RVSM with gradient descent, on the sphere where a lane of a one-layer problem asks for it."""
    links = rvsm(lane.penalty, lane.lam, lane.beta), optax.sgd(lane.learning_rate)
    on_sphere = isinstance(lane.problem, OneLayerProblem) and lane.normalize
    return optax.chain(*links, unit_sphere()) if on_sphere else optax.chain(*links)


def is_default(grid: Grid, algorithm: Algorithm, key: Array, dtype: np.dtype) -> bool:
    """Returns whether the chains of an algorithm compute what those of ``rvsm_by_sgd`` do, operation by operation.

    The jaxprs of both are compared, for each kind of lanes. Then the fused step of the default sweep computes the same.
    """
    if grid.problem is not None or grid.axes:
        return False
    axes, subject = parts_of(grid, dtype), OneLayer(grid.factory)
    for parts in itertools.product(*axes.values()):
        kinds = tuple((name, part.kind) for name, part in zip(axes, parts, strict=True))
        one = jax.eval_shape(lambda p=parts: jax.tree.map(lambda x: x[0], numbers_of(axes, p, (0,), key, 0.0, dtype)))
        leaves, structure = jax.tree.flatten(one)
        found, expected = (
            _programs(subject, kinds, each, dtype.name, structure, tuple(leaves)) for each in (algorithm, rvsm_by_sgd)
        )
        if found is None or found != expected:
            return False
    return True


@functools.lru_cache(maxsize=256)
def _programs(
    subject: OneLayer,
    kinds: tuple[tuple[str, Hashable], ...],
    algorithm: Algorithm,
    dtype: str,
    structure: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
) -> tuple[str, ...] | None:
    """Returns the jaxprs for a kind of lanes, as text; None with constant arrays, which the text lacks."""
    one = jax.tree.unflatten(structure, leaves)
    functions = functions_of(subject, kinds, algorithm, None, dtype)
    init, state = jax.make_jaxpr(functions.init, return_shape=True)(one)
    parts = [init, *(jax.make_jaxpr(part)(state, one) for part in (functions.step, functions.measure))]
    return None if any(part.consts for part in parts) else tuple(str(part) for part in parts)
