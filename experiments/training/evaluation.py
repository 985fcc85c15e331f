"""Evaluation of a training: u, running means for it, accuracies and zeros."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import optax
from jax import Array

import rvsmjax as rv
from rvsmjax._pytree import PyTree
from rvsmjax.methods import GradualPruningState
from rvsmjax.transforms import Sparsity, splitting_states

from ..data.labelled import Labelled
from .programs import Graph, Prepare, TrainState, make_count, make_settle
from .transforms.lookahead import looks_ahead

Settle = Callable[[TrainState, optax.Params, Array], PyTree]
"""Function (state, u, training images) -> rest of the network for u."""


class Evaluation(NamedTuple):
    """Measurements after an epoch, on the device.

    Attributes:
      u: see ``sparse``.
      rest_u: rest of the network for u.
      right_w, right_u: correct predictions on the held-out examples.
      zeros: ``rv.sparsity`` of u.
    """

    u: optax.Params
    rest_u: PyTree
    right_w: Array
    right_u: Array
    zeros: Sparsity


def evaluates_u(opt_state: optax.OptState) -> bool:
    """Returns whether u is to be evaluated with running means of its own.

    That is u of a splitting, or the average to which ``lookahead`` returns the parameters; not that of gradual pruning,
    at which the running means were taken.
    """
    splits = any(not isinstance(state, GradualPruningState) for state in splitting_states(opt_state))
    return splits or looks_ahead(opt_state)


def sparse(state: TrainState) -> optax.Params:
    """Returns u, or the parameters if the chain has no splitting."""
    return rv.sparse_params(state.opt_state, state.params) if splitting_states(state.opt_state) else state.params


def make_settle_of(graph: Graph, prepare: Prepare, settles: bool, whole: bool) -> Settle:
    """Returns the function (state, u, images) -> rest of the network for u, see ``make_settle``.

    That is the rest of the state where u is the parameters, or if not ``settles``.
    """
    settle = make_settle(graph, prepare, whole)
    return lambda state, u, images: (
        settle(u, state.rest, images) if settles and evaluates_u(state.opt_state) else state.rest
    )


@functools.cache
def make_look(
    graph: Graph, evaluated: Graph, prepare: Prepare, settles: bool, whole: bool
) -> Callable[[TrainState, Array, Labelled], Evaluation]:
    """Returns the function (state, training images, held-out examples) -> ``Evaluation``.

    Args:
      graph: graph of the network in training mode.
      evaluated: that in evaluation mode.
      prepare: see ``Prepare``.
      settles: whether to estimate running means for u.
      whole: whether the function is a single program.
    """
    count, settle = make_count(evaluated, prepare, whole), make_settle_of(graph, prepare, settles, whole)

    def look(state: TrainState, images: Array, held_out: Labelled) -> Evaluation:
        u = sparse(state)
        rest_u = settle(state, u, images)
        right_w = count(state.params, state.rest, held_out)
        right_u = count(u, rest_u, held_out) if evaluates_u(state.opt_state) else right_w
        return Evaluation(u, rest_u, right_w, right_u, rv.sparsity(u))

    return jax.jit(look) if whole else look
