"""Numbers for a training log."""

from __future__ import annotations

import re
from collections.abc import Sequence

import jax.numpy as jnp
import optax
from jax import Array

from rvsmjax.geometry import working_dtype
from rvsmjax.transforms.leaves.marks import Marks
from rvsmjax.transforms.rules import Rule
from rvsmjax.transforms.rvsm import RVSMState
from rvsmjax.transforms.sparse import SplittingState, count_zeros, sparse_params, splitting_states

STRENGTHS = ("beta", "rho", "pull")


def scalars(opt_state: optax.OptState, params: optax.Params) -> dict[str, Array]:
    """Returns the numbers to log during training by name, all of them scalars; for use under ``jit``.

    =====================  =========================================================================================
    ``sparsity``           fraction of zeros of u over all selected leaves; ``sparsity/PATH`` is that of one leaf
    ``gap``                ‖w − u‖/‖w‖ over the selected leaves, 0 if w is zero; where there is a w beside u
    ``lam``                λ of the last update, unless the penalty is a constraint
    ``beta``, ``rho``      β of ``rvsm``, ρ of ``admm``, at the last update
    ``pull``               α of ``sparsify`` at the last update; 1 once the pattern is frozen
    ``support_changes``    of the last update; with ``certificate=True``
    =====================  =========================================================================================

    Where several rules apply, ``lam/0`` is the λ of the default and ``lam/i`` that of the i-th entry of ``overrides``.
    Where λ differs between leaves, ``lam/mean``, ``lam/min`` and ``lam/max`` stand for it. If ``opt_state`` holds
    several splitting transformations, the names except ``sparsity`` begin with ``rvsm_0/``, ``admm_1/``, …, in order.

    Args:
      opt_state: optimizer state, see ``sparse_params``.
      params: the corresponding parameters: w, or u for ``sparsify``.

    Raises:
      ValueError: see ``sparse_params``.

    Example:
      >>> import rvsmjax as rv
      >>> w = {"kernel": jnp.array([[3.0, 0.0], [0.0, 4.0]]), "bias": jnp.ones(2)}
      >>> optimizer = optax.chain(rv.rvsm(rv.L0(), sparsity=0.75, beta=0.5), optax.sgd(0.1))
      >>> numbers = scalars(optimizer.init(w), w)
      >>> {name: round(float(number), 3) for name, number in numbers.items()}
      {'sparsity': 0.75, 'sparsity/kernel': 0.75, 'gap': 0.6, 'lam': 2.25, 'beta': 0.5}
    """
    u, states = sparse_params(opt_state, params), splitting_states(opt_state)
    leaves = [_marked(state.marks, u) for state in states]
    paths = [path for state in states for path in state.marks.paths]
    zeros = dict(zip(paths, (leaf == 0 for part in leaves for leaf in part), strict=True))
    report = count_zeros(zeros)
    numbers = {"sparsity": report.total.fraction}
    numbers |= {f"sparsity/{path}": leaf.fraction for path, leaf in report.leaves.items() if path}
    for index, (state, part) in enumerate(zip(states, leaves, strict=True)):
        prefix = f"{_kind(state)}_{index}/" if len(states) > 1 else ""
        numbers |= {prefix + name: number for name, number in _of_state(state, params, part).items()}
    return numbers


def _kind(state: SplittingState) -> str:
    """Returns ``sparsify`` for a ``SparsifyState``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(state).__name__.removesuffix("State")).lower()


def _of_state(state: SplittingState, params: optax.Params, u: Sequence[Array]) -> dict[str, Array]:
    rules, residual = getattr(state, "rules", None), getattr(state, "residual", None)
    numbers: dict[str, Array] = {}
    if residual is not None:
        rest = _marked(state.marks, residual)
        w = [leaf.astype(more.dtype) + more for leaf, more in zip(u, rest, strict=True)]
    else:
        w = [leaf.astype(working_dtype(leaf)) for leaf in _marked(state.marks, params)]
        rest = [leaf - sparse.astype(leaf.dtype) for leaf, sparse in zip(w, u, strict=True)]
    if rules is not None or residual is not None:
        distance, length = _norm(rest), _norm(w)
        numbers["gap"] = jnp.where(length > 0, distance / jnp.where(length > 0, length, 1), 0)
    if rules is not None:
        numbers |= _lams(rules, state.marks)
    numbers |= {name: getattr(state, name) for name in STRENGTHS if hasattr(state, name)}
    if isinstance(state, RVSMState) and state.certificate is not None:
        numbers["support_changes"] = state.certificate.support_changes
    return numbers


def _lams(rules: Sequence[Rule], marks: Marks) -> dict[str, Array]:
    used = sorted({index for index in marks.rules if index is not None})
    numbers: dict[str, Array] = {}
    for index in used:
        lam, name = jnp.asarray(rules[index].lam), f"lam/{index}" if len(used) > 1 else "lam"
        if rules[index].penalty.is_constraint:
            continue
        if lam.ndim:
            numbers |= {f"{name}/{one.__name__}": one(lam) for one in (jnp.mean, jnp.min, jnp.max)}
        else:
            numbers[name] = lam
    return numbers


def _marked(marks: Marks, tree: object) -> list[Array]:
    return [leaf for rule, leaf in zip(marks.rules, marks.leaves(tree), strict=True) if rule is not None]


def _norm(leaves: Sequence[Array]) -> Array:
    return jnp.sqrt(sum((jnp.sum(jnp.square(leaf)) for leaf in leaves), jnp.float32(0)))
